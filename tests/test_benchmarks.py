"""Benchmarks run by hand, so a helper that moved would be noticed late: each import of theirs names a module."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
PEERS = {"litestar", "litserve", "lycoris", "peft", "fastapi", "mapie", "monai", "cleanlab", "captum", "ray"}  # extras


def imported(script: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.py")), ids=lambda script: script.stem)
def test_each_module_that_a_benchmark_imports_exists(script: Path) -> None:
    for name in imported(script):
        room, place = name.split(".")[0], FOLDER / Path(*name.split("."))
        installed = room in PEERS or (room != "shared" and importlib.util.find_spec(room) is not None)
        assert installed or place.is_dir() or place.with_suffix(".py").is_file(), f"{script.name} imports {name}"
