"""Every row of the list of bad inputs has a test or an argument, and so has every fault."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from tests.rows import ARGUED, FAULTS, KINDS, ROWS

TESTS = Path(__file__).parent
SECURITY = (TESTS.parent / ARGUED).read_text(encoding="utf-8")
NAME = re.compile(rf"\b(?:{'|'.join(KINDS)})-[0-9]{{2}}\b")


@cache
def names_in(file: str) -> frozenset[str]:
    """The rows that begin a text of the file, such as a parameter's name, or that a test's name has."""
    found = set()
    for node in ast.walk(ast.parse((TESTS / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (match := NAME.match(node.value)):
            found.add(match[0])
        elif isinstance(node, ast.FunctionDef) and (match := re.match(r"test_([a-z]+_[0-9]{2})_", node.name)):
            found.add(match[1].upper().replace("_", "-"))
    return frozenset(found)


def test_the_list_has_181_rows() -> None:
    assert len(ROWS) == sum(count for count, _ in KINDS.values()) == 181


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_a_test_of_its_name_or_an_argument(row: str) -> None:
    if ROWS[row] == ARGUED:
        assert row in NAME.findall(SECURITY)
    else:
        assert row in names_in(ROWS[row])


def test_the_docs_and_the_tests_name_no_other_rows() -> None:
    files = {file for file in ROWS.values() if file != ARGUED}

    assert set(NAME.findall(SECURITY)) <= set(ROWS)
    assert set().union(*map(names_in, files)) <= set(ROWS)


def test_the_list_has_36_faults() -> None:
    assert list(FAULTS) == [f"F{number}" for number in range(1, 37)]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_tests_or_an_argument(fault: str) -> None:
    """Each entry is `file::test`, or the beginning of a sentence of docs/security.md."""
    for entry in FAULTS[fault]:
        file, separator, test = entry.partition("::")
        if separator:
            source = (TESTS / file).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {test}\w*\(", source, re.MULTILINE), entry
        else:
            assert entry in SECURITY
