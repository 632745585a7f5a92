"""The list of slow tests names what is there, and `make quick` leaves out every mark that needs time or a program."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.slow import LONGEST, SLOW

TESTS = Path(__file__).parent
ROOT = TESTS.parent


def test_every_slow_file_and_test_is_there() -> None:
    for entry in SLOW:
        file, _, name = entry.partition("::")
        if (TESTS / file).is_dir():
            continue
        assert (TESTS / file).is_file(), f"tests/slow.py: found {entry}, expected a file of tests. Fix: its new name"
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert not name or name in functions, f"tests/slow.py: found no test {entry}. Fix: its new name"


def test_every_file_that_comes_first_is_there() -> None:
    assert [file for file in LONGEST if not (TESTS / file).is_file()] == []


def test_no_test_is_listed_twice_by_itself_and_with_its_file() -> None:
    whole = {entry for entry in SLOW if "::" not in entry}
    assert [entry for entry in SLOW if "::" in entry and entry.partition("::")[0] in whole] == []


def test_quick_leaves_out_every_mark_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    registered = {line.partition(":")[0] for line in project["tool"]["pytest"]["ini_options"]["markers"]}
    recipe = re.search(r'^quick:.*\n\t.* -m "(.*)"', (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert recipe is not None
    assert set(recipe[1].split(" and ")) == {f"not {mark}" for mark in registered}


CONFTEST = """
import importlib.util, pathlib
spec = importlib.util.spec_from_file_location("marks", {file!r})
marks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(marks)
marks.TESTS = pathlib.Path(__file__).parent
marks.SLOW = {{"test_all.py", "test_some.py::test_slow"}}
def pytest_configure(config):
    config.pluginmanager.register(marks, "marks")
"""
SOME = """
import pytest
@pytest.fixture
def chromium(): ...
@pytest.fixture(params=["sqlite", "postgresql"])
def database(request): ...
@pytest.mark.parametrize("number", [1, 2])
def test_slow(number): ...
def test_page(chromium): ...
def test_table(database): ...
@pytest.mark.soak
def test_long(): ...
def test_fast(): ...
"""


@pytest.mark.parametrize(
    ("arguments", "summary"),
    [
        (["-m", "not slow and not soak and not browser and not postgresql"], "2 passed, 5 deselected"),
        (["test_some.py"], "6 passed, 1 skipped"),
        (["test_some.py", "-m", "slow"], "2 passed, 5 deselected"),
        (["test_some.py", "-m", "soak"], "1 passed, 6 deselected"),
    ],
)
def test_tests_are_marked_by_the_list_and_by_their_fixtures(arguments: list[str], summary: str, tmp_path: Path) -> None:
    """In a project of its own, whose list names one file, which cannot be imported, and one test of another."""
    (tmp_path / "conftest.py").write_text(CONFTEST.format(file=str(TESTS / "marks.py")))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n gpu\n soak\n slow\n browser\n postgresql\n")
    (tmp_path / "test_all.py").write_text("raise RuntimeError")
    (tmp_path / "test_some.py").write_text(SOME)
    command = [sys.executable, "-m", "pytest", "--strict-markers", "-p", "no:cacheprovider", *arguments]
    alone = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }  # the plugins of this environment take a second
    ended = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert summary in ended.stdout
