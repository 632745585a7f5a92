"""Tables, metrics.json, metrics.png and the other report files of a run."""

from __future__ import annotations

import ast
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import torch
from PIL import Image
from rich.console import Console

import lensmount_adapters
from lensmount_adapters.metrics.classification import measure
from lensmount_adapters.metrics.scored import ScoredPart
from lensmount_adapters.report.context import ReportContext
from lensmount_adapters.report.write import tables, write_metrics, write_run_report

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawJudged, DrawManifest

DIGEST = "sha256:" + "12" * 32
LABELS = ["oak", "elm", "ash"]
TRUTH = torch.tensor([0, 0, 0, 1, 1, 2])
SCORES = torch.tensor(
    [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]]
)
SCORED = ScoredPart(tuple("abcdef"), TRUTH, SCORES, measure(TRUTH, SCORES, LABELS))


def no_image(path: str) -> bytes:
    raise FileNotFoundError(path)


def test_the_tables_show_the_metrics_of_every_class_and_the_confusion() -> None:
    console = Console(file=io.StringIO(), width=120)

    for table in tables("test", measure(TRUTH, SCORES, LABELS)):
        console.print(table)

    text = cast(io.StringIO, console.file).getvalue()
    assert "6 images, accuracy 0.8333, balanced accuracy 0.8889" in text
    assert all(word in text for word in ("oak", "elm", "ash", "precision", "recall", "F1", "AUROC", "confusion matrix"))
    assert "0.6667" in text  # elm: two of three predictions are correct


def test_the_tables_show_labels_literally(draw_judged: DrawJudged) -> None:
    console = Console(file=io.StringIO(), width=120)

    for table in tables("test", draw_judged(["[red]oak", "[/elm]"]).metrics):
        console.print(table)

    assert cast(io.StringIO, console.file).getvalue().count("[red]oak") == 3
    assert cast(io.StringIO, console.file).getvalue().count("[/elm]") == 3


def test_metrics_are_written_as_strict_json_and_as_a_figure_without_a_display(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)

    paths = write_metrics(tmp_path / "out", {"metrics": SCORED.metrics.to_json()}, {"test": SCORED})

    assert [path.name for path in paths] == ["metrics.json", "metrics.png"]
    assert json.loads(paths[0].read_text())["metrics"]["confusion"] == [[2, 1, 0], [0, 2, 0], [0, 0, 1]]
    with Image.open(paths[1]) as image:
        assert image.format == "PNG"
        assert image.width > 800


def test_a_set_of_one_class_is_drawn_without_curves(tmp_path: Path) -> None:
    truth, scores = torch.tensor([0, 0]), torch.tensor([[0.9, 0.1], [0.3, 0.7]])

    paths = write_metrics(
        tmp_path, {}, {"test": ScoredPart(("a", "b"), truth, scores, measure(truth, scores, ["a", "b"]))}
    )

    assert paths[1].stat().st_size > 5000


@pytest.mark.parametrize("label", [r"$\frac$", "_hidden", "樫", "x" * 256, "\u202eoak", "100 %"])
def test_the_figure_shows_labels_literally(label: str, draw_judged: DrawJudged, tmp_path: Path) -> None:
    write_metrics(tmp_path, {}, {"test": draw_judged(["elm", label])})

    assert (tmp_path / "metrics.png").stat().st_size > 5000


def test_a_run_writes_metrics_figure_card_and_page(draw_manifest: DrawManifest, tmp_path: Path) -> None:
    parts = {"validation": SCORED, "test": SCORED}

    paths = write_run_report(tmp_path / "out", draw_manifest(LABELS), DIGEST, 20_000, parts, no_image)

    assert [path.name for path in paths] == ["metrics.json", "metrics.png", "card.md", "report.html"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths)
    document = json.loads(paths[0].read_text())
    assert document["adapter"] == {"name": "trees", "digest": DIGEST, "size_bytes": 20_000}
    assert document["metrics"]["test"] == json.loads(json.dumps(SCORED.metrics.to_json()))
    assert document["calibration"]["validation"]["expected_calibration_error"] == pytest.approx(
        (abs(0.6 + 0.6 - 2) + abs(0.7 - 0) + abs(0.8 * 3 - 3)) / 6, abs=1e-6
    )
    assert "- balanced accuracy **0.889**" in paths[2].read_text()
    assert "5 of 6 held-out images classified correctly" in paths[3].read_text()


def test_the_page_shows_gate_and_notes(draw_manifest: DrawManifest, tmp_path: Path) -> None:
    gate = {"passed": False, "reason": "worse than trees@3", "margin": 0.01, "replaced": {"version": 3}}

    context = ReportContext(gate=gate, notes=["2 copies"])
    write_run_report(tmp_path, draw_manifest(LABELS), DIGEST, 9, {"test": SCORED}, no_image, context)

    page = (tmp_path / "report.html").read_text()
    assert "<b>Not passed</b>: <bdi>worse than trees@3</bdi>" in page
    assert "replaced.version" in page
    assert "<bdi>2 copies</bdi>" in page


def test_a_run_without_any_scored_part_writes_no_figure(draw_manifest: DrawManifest, tmp_path: Path) -> None:
    paths = write_run_report(tmp_path, draw_manifest(LABELS), DIGEST, 20_000, {}, no_image)

    assert [path.name for path in paths] == ["metrics.json", "card.md", "report.html"]
    assert json.loads(paths[0].read_text())["metrics"] == {}


def test_two_hundred_classes_are_written(draw_manifest: DrawManifest, draw_judged: DrawJudged, tmp_path: Path) -> None:
    labels = [f"species {number}" for number in range(200)]

    paths = write_run_report(
        tmp_path, draw_manifest(labels), DIGEST, 20_000, {"test": draw_judged(labels, 400, 40)}, no_image
    )

    assert all(path.stat().st_size > 1000 for path in paths)
    assert len(tables("test", draw_judged(labels, 400, 40).metrics)) == 2  # a matrix of 200 columns is unreadable


def test_a_path_that_is_not_utf_8_is_written_with_escapes(
    draw_manifest: DrawManifest, draw_judged: DrawJudged, tmp_path: Path
) -> None:
    scored = draw_judged(LABELS, images=3, wrong=1, paths=["odd\udcff.png", "b", "c"])

    write_run_report(tmp_path, draw_manifest(LABELS), DIGEST, 20_000, {"test": scored}, no_image)

    assert r"odd\udcff.png" in (tmp_path / "report.html").read_text()


def test_matplotlib_is_imported_only_when_a_figure_is_drawn() -> None:
    package = Path(lensmount_adapters.__file__).parent
    paths = sorted(package.rglob("*.py"))
    assert package / "report" / "write.py" in paths
    for path in paths:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert "matplotlib" not in ast.unparse(node), path
