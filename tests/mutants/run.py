"""Plants one bug into a copy of the source, runs the tests that it names, and says whether they caught it.

The checkout is copied once. Each bug then gets a copy of hard links, in which only the changed file is written.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from tests.mutants.planted import Bug

TIMEOUT_S = 300.0
LEFT_OUT = (".git", ".venv", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "build", "dist", "runs")
OPTIONS = ("-p", "anyio.pytest_plugin", "-p", "no:cacheprovider")
PACKAGES = ("service", "adapters", "client")
_ASSERTIONS = ("AssertionError", "assert ", "Failed: ")  # the last one is of pytest.raises and pytest.fail


@dataclass(frozen=True, slots=True)
class Case:
    """How one case of a test ended. `message` begins with the exception."""

    test: str
    outcome: Literal["passed", "failed", "error", "skipped"]
    message: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one bug; `problem` is empty if every named test caught it."""

    bug: Bug
    problem: str
    seconds: float


def copied(root: Path, folder: Path) -> Path:
    """A copy of the checkout `root`, which other copies can be linked to."""
    return Path(shutil.copytree(root, folder, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True))


def problem_without_bugs(copy: Path, tests: Iterable[str]) -> str:
    """Run all named tests together on the unchanged source. Returns what is wrong, or an empty text."""
    wanted = list(dict.fromkeys(tests))
    cases = run_tests(copy, wanted, 4 * TIMEOUT_S, stop=False)
    for test in wanted:
        mine = [case for case in cases if case.test == test or case.test.startswith(f"{test}[")]
        if not mine:
            return f"{test}: found no such test in the unchanged source, expected it to pass{_first_error(cases)}"
        for case in mine:
            if case.outcome != "passed":
                return f"{case.test}: {case.outcome} in the unchanged source, expected it to pass. {case.message[:300]}"
    return ""


def try_bug(copy: Path, folder: Path, bug: Bug) -> Result:
    """Plant the bug into a copy in `folder`, which is removed again, and run its tests there. Raises OutOfDate."""
    started = time.monotonic()
    shutil.copytree(copy, folder, copy_function=os.link, symlinks=True)
    try:
        path = folder / bug.file
        text = bug.planted_in(path.read_text(encoding="utf-8"))
        path.unlink()  # the link, so that the file of the other copies stays
        path.write_text(text, encoding="utf-8")
        problems = [problem_of(bug, test, run_tests(folder, [test], TIMEOUT_S)) for test in bug.tests]
    finally:
        shutil.rmtree(folder)
    return Result(bug, " ".join(filter(None, problems)), time.monotonic() - started)


def problem_of(bug: Bug, test: str, cases: Sequence[Case]) -> str:
    """Why these cases of a named test did not catch the bug; an empty text if one of them did."""
    bad = [case for case in cases if case.outcome != "passed"]
    if not cases or any(case.outcome in ("error", "skipped") for case in bad):
        ended = "; ".join(f"{case.outcome}: {case.message[:200]}" for case in bad) or "no test ran"
        return f"{test} did not run to its assertion ({ended}). Fix: plant a bug that leaves the test running."
    if not bad:
        return f"{test} passes with the bug. Fix: write the test that is missing."
    starts = _ASSERTIONS if bug.fails_with == "AssertionError" else (bug.fails_with,)
    if not bad[0].message.startswith(starts):
        return f"{test} failed with {bad[0].message[:200]!r}, expected {bug.fails_with}."
    return ""


def run_tests(root: Path, tests: Sequence[str], timeout_s: float, *, stop: bool = True) -> list[Case]:
    """Run pytest on the source in `root`; an empty list if it found no such test. `stop` at the first failure."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(root / package) for package in PACKAGES),
        "OMP_NUM_THREADS": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # half a second for each run
    }
    with tempfile.TemporaryDirectory() as folder:  # not in `root`, whose files are links
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", *OPTIONS, f"--junitxml={report}", *["-x"] * stop]
        with (Path(folder) / "output.txt").open("w") as output:
            process = subprocess.Popen(
                [*command, *tests],
                cwd=root,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                return [Case(tests[0], "error", f"found no end after {timeout_s:.0f} s")]
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # a group of its own, with what the tests started
                    process.wait()
        return [_case(each) for each in ElementTree.parse(report).iter("testcase")] if report.exists() else []


def _case(element: ElementTree.Element) -> Case:
    test = f"{element.get('classname', '').replace('.', '/')}.py::{element.get('name')}"
    for tag, outcome in (("error", "error"), ("failure", "failed"), ("skipped", "skipped")):
        found = element.find(tag)
        if found is not None:
            return Case(test, outcome, found.get("message", ""))  # type: ignore[arg-type]  # one of the words above
    return Case(test, "passed")


def _first_error(cases: Sequence[Case]) -> str:
    return next((f". {case.message[:300]}" for case in cases if case.outcome == "error"), "")
