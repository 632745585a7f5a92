"""The table of commands in the other packages names functions by strings, which no other tool checks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from lensmount_client._cli.lazy import LAZY_COMMANDS

ROOT = Path(__file__).parents[3]


def test_commands_of_the_other_packages_are_listed_and_no_name_is_taken_twice() -> None:
    from lensmount_client._cli.main import app

    own = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    assert LAZY_COMMANDS
    assert not own & LAZY_COMMANDS.keys()


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
