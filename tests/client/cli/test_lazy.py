"""The tables of commands name functions by strings, which no other tool checks."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

from lensmount_client._cli.lazy import CLIENT_COMMANDS, LAZY_COMMANDS

ROOT = Path(__file__).parents[3]
OF_TRAINING = [name for name, entry in LAZY_COMMANDS.items() if entry.module.startswith("lensmount_adapters.")]
NEVER_FOR_HELP = (
    *("torch", "torchvision", "timm", "numpy", "PIL", "sklearn", "matplotlib", "jinja2", "safetensors"),
    *("httpx", "asyncio", "ssl"),
    *("sqlalchemy", "fastapi", "pydantic_settings", "lensmount_service"),
)


def test_no_name_is_taken_twice() -> None:
    assert LAZY_COMMANDS
    assert not CLIENT_COMMANDS.keys() & LAZY_COMMANDS.keys()


@pytest.mark.parametrize("name", CLIENT_COMMANDS)
def test_every_command_of_the_client_is_a_function_or_a_group_of_commands(name: str) -> None:
    entry = CLIENT_COMMANDS[name]
    found = getattr(import_module(entry.module), entry.function)
    if isinstance(found, typer.Typer):
        lazy = [command for command in LAZY_COMMANDS if command.startswith(f"{name} ")]
        assert len(found.registered_commands) + len(lazy) > 1
    else:
        assert found.__doc__.startswith(entry.help)


@pytest.mark.parametrize("name", LAZY_COMMANDS)
def test_every_command_of_another_package_names_a_function_that_is_there(name: str) -> None:
    """From the source, so that this needs neither torch nor the server's packages."""
    entry = LAZY_COMMANDS[name]
    package = entry.module.partition(".")[0]
    folder = ROOT / package.removeprefix("lensmount_")
    path = folder.joinpath(*entry.module.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert entry.function in functions
    assert ast.get_docstring(functions[entry.function])


@pytest.mark.parametrize(
    ("commands", "loaded"),
    [
        ([[], *([name] for name in OF_TRAINING if " " not in name)], ()),
        ([name.split() for name in OF_TRAINING if " " in name], ("httpx", "asyncio", "ssl")),  # by the client's group
    ],
    ids=["commands", "commands of a group"],
)
def test_the_help_of_a_training_command_imports_only_what_it_prints_with(
    commands: list[list[str]], loaded: tuple[str, ...]
) -> None:
    """In one process: the help of `lensmount` and of each command leaves these modules unimported."""
    script = f"""
import sys
from lensmount_client._cli.main import main
for command in {commands}:
    try:
        main([*command, "--help"])
    except SystemExit as end:
        assert end.code == 0, command
print(sorted(set({NEVER_FOR_HELP}) - set({loaded}) & set(sys.modules)), file=sys.stderr)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "[]\n")
    assert commands


def test_the_help_of_one_group_imports_no_other_command() -> None:
    script = (
        "import atexit, sys; from lensmount_client._cli.main import main\n"
        "names = ('predict', 'bench', 'datasets', 'jobs')\n"
        "found = lambda: [name for name in names if f'lensmount_client._cli.{name}' in sys.modules]\n"
        "atexit.register(lambda: print(found(), file=sys.stderr))\n"
        "main(['adapters', '--help'])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "[]\n")
