"""The public names are imported when they are first used, and are those that a type checker reads."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import lensmount_client


def test_the_names_for_python_are_those_for_the_type_checker() -> None:
    tree = ast.parse(Path(lensmount_client.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.name: node.module or ""
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(typed) == sorted(lensmount_client.__all__)
    for name, module in typed.items():
        assert getattr(lensmount_client, name) is getattr(import_module(module), name), name


def test_dir_lists_the_public_names_and_an_unknown_name_is_an_attribute_error() -> None:
    assert set(lensmount_client.__all__) <= set(dir(lensmount_client))
    with pytest.raises(AttributeError, match="'lensmount_client' has no attribute 'nothing'"):
        lensmount_client.nothing  # type: ignore[attr-defined]  # noqa: B018  # the access is the test


def test_importing_the_package_imports_httpx_only_for_a_client() -> None:
    script = (
        "import sys, lensmount_client; print('httpx' in sys.modules); "
        "lensmount_client.QueueFull; print('httpx' in sys.modules); "
        "lensmount_client.Client; print('httpx' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "False", "True"]
