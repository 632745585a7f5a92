"""The tests that need a GPU, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from . import goals
from .bench import Bench

ROOT = Path(__file__).parents[2]
LIMIT_S = 170.0


def measure(bench: Bench) -> None:
    """A dry run only looks for the files: without a GPU every one of the tests would be skipped."""
    files = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in path.read_text())
    bench.row("files with tests marked gpu", len(files))
    if not bench.dry:
        run(bench, [str(path.relative_to(ROOT)) for path in files])


def run(bench: Bench, files: list[str]) -> None:
    """Warnings are shown instead of raised: on a machine that is not ours a plugin's warning would fail every test."""
    report, text = bench.table.folder / "tests.xml", bench.table.folder / "tests.txt"
    command = [sys.executable, "-m", "pytest", "-m", "gpu", *files, "-q", "-rfE", "-o", "filterwarnings=default"]
    command += ["-p", "no:cacheprovider", f"--junitxml={report}"]
    with text.open("w") as sink:
        limit_s = min(LIMIT_S, bench.left_s())
        subprocess.run(command, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT, timeout=limit_s, check=False)
    if not report.exists():
        raise RuntimeError(f"pytest wrote no report: {text.read_text()[-500:]}")
    passed, failed, skipped = counts(report.read_text())
    bench.row("tests passed", passed)
    bench.row("tests failed", failed, "", goals.TESTS_FAILED)
    bench.row("tests skipped", skipped)


def counts(report: str) -> tuple[int, int, int]:
    """Tests passed, failed (errors included) and skipped, from JUnit's XML."""
    suites = list(ElementTree.fromstring(report).iter("testsuite"))
    ran, skipped = (sum(int(suite.get(name, "0")) for suite in suites) for name in ("tests", "skipped"))
    failed = sum(int(suite.get(name, "0")) for suite in suites for name in ("failures", "errors"))
    return ran - failed - skipped, failed, skipped
