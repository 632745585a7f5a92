"""The list of planted bugs fits the source, and `make mutants` tells a bug that is caught from one that is not."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from tests.mutants.planted import ROOT, Bug, OutOfDate, bugs
from tests.mutants.run import PACKAGES, copied, problem_without_bugs, try_bug

BUGS = {bug.name: bug for bug in bugs()}


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_changes_one_place_and_leaves_python(name: str) -> None:
    """A renamed variable or a moved line makes the list out of date: then write its new text there."""
    bug = BUGS[name]
    source = (ROOT / bug.file).read_text(encoding="utf-8")

    assert ast.dump(ast.parse(bug.planted_in(source))) != ast.dump(ast.parse(source))
    assert bug.file.partition("/")[0] in PACKAGES
    assert bug.why.endswith(".")


@pytest.mark.parametrize("name", BUGS)
def test_the_tests_that_must_catch_it_are_there(name: str) -> None:
    for test in BUGS[name].tests:
        file, _, function = test.partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert function.partition("[")[0] in functions, f"{name}: found no test {test}. Fix: its new name"


def test_no_name_of_a_bug_is_used_twice() -> None:
    assert [name for name, count in Counter(bug.name for bug in bugs()).items() if count > 1] == []


BUG = Bug(
    "ten", "Ten is not two.", "service/two.py", "return 2", "return 10", ("tests/test_two.py::test_two",), "x.toml"
)


@pytest.mark.parametrize(("source", "count"), [("return 3", 0), ("return 2; return 2", 2)])
def test_a_text_that_is_not_there_exactly_once_is_out_of_date_and_the_advice_works(source: str, count: int) -> None:
    with pytest.raises(OutOfDate, match=rf"ten: found its text before {count} times.*Fix: .* tests/mutants/x\.toml"):
        BUG.planted_in(source)

    assert replace(BUG, before="return 2; return 2").planted_in("return 2; return 2") == "return 10"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a small project, of which the test `test_two` is sound and `test_nothing` passes whatever happens."""
    root = tmp_path_factory.mktemp("project")
    for package in (*PACKAGES, "tests"):
        (root / package).mkdir()
    (root / "service" / "two.py").write_text("def two() -> int:\n    return 2\n")
    (root / "tests" / "test_two.py").write_text(
        "from two import two\n\n\ndef test_two():\n    assert two() == 2\n\n\ndef test_nothing():\n    two()\n"
    )
    return copied(root, tmp_path_factory.mktemp("copies") / "sound")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"tests": ("tests/test_two.py::test_nothing",)}, "passes with the bug. Fix: write the test that is missing"),
        ({"after": "return two"}, ""),
        ({"after": "raise ValueError"}, "failed with 'ValueError', expected AssertionError"),
        ({"after": "raise ValueError", "fails_with": "ValueError"}, ""),
        ({"after": "return 1 +"}, "did not run to its assertion (error: collection failure"),
        ({"tests": ("tests/test_two.py::test_three",)}, "did not run to its assertion (no test ran)"),
    ],
)
def test_a_bug_is_caught_only_by_a_test_that_fails_by_its_assertion(
    copy: Path, tmp_path: Path, changes: dict[str, object], problem: str
) -> None:
    result = try_bug(copy, tmp_path / "bug", replace(BUG, **changes))  # type: ignore[arg-type]  # of a table

    assert problem in result.problem
    assert bool(problem) == bool(result.problem)
    assert (copy / "service" / "two.py").read_text() == "def two() -> int:\n    return 2\n"
    assert list(tmp_path.iterdir()) == []


def test_a_test_that_fails_or_is_missing_without_any_bug_is_said(copy: Path, tmp_path: Path) -> None:
    assert problem_without_bugs(copy, BUG.tests) == ""
    assert "test_three: found no such test" in problem_without_bugs(copy, ["tests/test_two.py::test_three"])
    broken = copied(copy, tmp_path / "broken")
    (broken / "service" / "two.py").write_text("def two() -> int:\n    return 3\n")
    assert "test_two: failed in the unchanged source" in problem_without_bugs(broken, BUG.tests)
