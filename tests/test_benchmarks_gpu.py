"""`benchmarks/gpu` without a GPU: every check runs, the table has its format, failures and the budget are reported."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "gpu"
CHECKS = [
    *("card", "forward", "switch", "mixed", "kernels", "tests", "transfer", "decode"),
    *("memory", "short memory", "integrity", "training", "serving", "autotune"),
]


@pytest.fixture(scope="module")
def program() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield importlib.import_module("benchmarks.gpu.__main__")


@pytest.fixture(scope="module")
def dry_run(program: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """Exit status and folder of one dry run."""
    folder = tmp_path_factory.mktemp("gpu")
    return program.main(["--dry-run", "--out", str(folder)]), folder


@pytest.fixture
def bench(program: Any, tmp_path: Path) -> Any:
    import torch

    table = program.Table(tmp_path, {"card": "none"})
    return program.Bench(table, program.Clock(torch.device("cpu"), dry=True), time.monotonic() + 1000)


def test_a_dry_run_completes_every_check_and_each_writes_a_row(dry_run: tuple[int, Path]) -> None:
    status, folder = dry_run
    document = json.loads((folder / "gpu.json").read_text())

    assert {name: state["remark"] for name, state in document["checks"].items() if state["state"] != "done"} == {}
    assert list(document["checks"]) == CHECKS
    assert {row["check"] for row in document["rows"]} == set(CHECKS)
    assert status == 0


def test_the_json_names_the_machine_and_has_a_goal_and_a_limit_for_each_row(dry_run: tuple[int, Path]) -> None:
    document = json.loads((dry_run[1] / "gpu.json").read_text())

    assert sorted(document) == ["checks", "format", "head", "rows"]
    assert document["format"] == 1
    assert {"card", "driver", "torch", "threads"} <= document["head"].keys()
    for row in document["rows"]:
        assert list(row) == ["check", "figure", "value", "unit", "goal", "met", "limit"]
        # on a busy machine no request may be answered in the short time that a dry run asks
        assert isinstance(row["value"], float) or row["check"] == "serving", row
        assert row["met"] is None, "a dry run's figures mean nothing"
    assert sum(bool(row["goal"]) for row in document["rows"]) >= 15


def test_the_markdown_has_every_figure_of_the_json(dry_run: tuple[int, Path]) -> None:
    rows = json.loads((dry_run[1] / "gpu.json").read_text())["rows"]
    table = [line for line in (dry_run[1] / "gpu.md").read_text().splitlines() if line.count(" | ") == 6]

    assert table[0] == "| check | figure | value | unit | goal | met | limit or best known |"
    assert [line.split(" | ")[1] for line in table[1:]] == [row["figure"] for row in rows]


def test_the_adapter_that_is_measured_moves_the_scores(dry_run: tuple[int, Path]) -> None:
    rows = json.loads((dry_run[1] / "gpu.json").read_text())["rows"]
    values = {row["figure"]: row["value"] for row in rows}

    assert values["test_efficientnet: scores moved by the adapter"] > 1e-3
    assert values["test_efficientnet: scores differ from float32 by"] < 0.02


def test_one_failing_check_does_not_stop_the_others(program: Any, bench: Any) -> None:
    def breaks(_: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    program.run(bench, [program.Check("bad", 0, breaks), program.Check("good", 0, lambda b: b.row("figure", 1.0))])

    assert bench.table.states["bad"].state == "failed"
    assert "out of memory" in bench.table.states["bad"].remark
    assert bench.table.states["good"].state == "done"
    assert [row.figure for row in bench.table.rows] == ["figure"]


def test_what_no_longer_fits_into_the_budget_is_left_out_and_the_table_says_so(program: Any, tmp_path: Path) -> None:
    assert program.main(["--dry-run", "--out", str(tmp_path), "--budget-s", "4"]) == 0

    states = json.loads((tmp_path / "gpu.json").read_text())["checks"]
    assert {state["state"] for name, state in states.items() if name in ("forward", "serving")} == {"left out"}
    assert "s were left and it needs 40 s" in (tmp_path / "gpu.md").read_text()


def test_a_figure_is_judged_by_its_goal(bench: Any) -> None:
    goal = importlib.import_module("benchmarks.gpu.goals").Goal(at_least=0.9, limit="1")
    for value in (0.95, 0.85, float("nan")):
        bench.row("ours / peer", value, "times", goal)

    assert [(row.value, row.met) for row in bench.table.rows] == [(0.95, True), (0.85, False), (None, False)]
    assert "|  | ours / peer | 0.85 | times | at least 0.9 | no | 1 |" in bench.table.markdown()


@pytest.mark.parametrize(
    ("name", "images", "floor_ms"),
    [
        # by hand, from timm's counts: bytes at 1 and for EfficientNet-Lite0, arithmetic for the others at 256
        ("RESNET34", 1, 0.0195),
        ("RESNET34", 256, 2.35),
        ("LITE0", 16, 0.147),
        ("LITE0", 256, 2.30),
        ("VIT", 1, 0.0655),
        ("VIT", 256, 2.83),
    ],
)
def test_the_floor_of_a_forward_pass_is_by_arithmetic_or_by_bytes(
    program: Any, name: str, images: int, floor_ms: float
) -> None:
    network = getattr(importlib.import_module("benchmarks.gpu.network"), name)

    assert network.floor_ms(images) == pytest.approx(floor_ms, rel=0.01)


def test_passed_failed_and_skipped_tests_are_counted_from_the_report(program: Any) -> None:
    report = (
        '<testsuites><testsuite tests="10" failures="2" errors="1" skipped="3"/>'
        '<testsuite tests="5" failures="0" errors="0" skipped="0"/></testsuites>'
    )

    assert importlib.import_module("benchmarks.gpu.marked_tests").counts(report) == (9, 3, 3)


def test_without_a_gpu_and_without_dry_run_the_fix_is_printed(
    program: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    assert program.main(["--out", str(tmp_path)]) == 2
    assert "add --dry-run" in capsys.readouterr().out


def test_every_wheel_has_its_version_in_the_constraints() -> None:
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))

    assert set((FOLDER / "wheels.txt").read_text().split()) <= pinned


@pytest.mark.parametrize("script", ["run.sh", "fetch_wheels.sh"])
def test_the_scripts_are_sound_and_name_no_host(script: str) -> None:
    assert subprocess.run(["bash", "-n", FOLDER / script], check=False).returncode == 0
    assert "://" not in (FOLDER / script).read_text()
