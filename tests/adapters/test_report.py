"""Tables, metrics.json and the picture."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console

from lensmount_adapters.metrics import measure
from lensmount_adapters.report import tables, write_report

TRUTH = torch.tensor([0, 0, 0, 1, 1, 2])
SCORES = torch.tensor(
    [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]]
)


def test_the_tables_show_every_class_its_figures_and_the_confusion() -> None:
    console = Console(file=io.StringIO(), width=120)

    for table in tables("test", measure(TRUTH, SCORES, ["oak", "elm", "ash"])):
        console.print(table)

    text = console.file.getvalue()
    assert "6 images, accuracy 0.8333, balanced accuracy 0.8889" in text
    assert all(word in text for word in ("oak", "elm", "ash", "precision", "recall", "F1", "AUROC", "confusion matrix"))
    assert "0.6667" in text  # elm: two of three answers are right


def test_a_report_is_strict_json_and_a_picture_without_a_display(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    metrics = measure(TRUTH, SCORES, ["oak", "elm", "ash"])

    paths = write_report(tmp_path / "out", {"metrics": metrics.to_json()}, TRUTH, SCORES, metrics)

    assert [path.name for path in paths] == ["metrics.json", "metrics.png"]
    assert json.loads(paths[0].read_text())["metrics"]["confusion"] == [[2, 1, 0], [0, 2, 0], [0, 0, 1]]
    with Image.open(paths[1]) as picture:
        assert picture.format == "PNG"
        assert picture.width > 800


def test_a_set_of_one_class_is_drawn_without_curves(tmp_path: Path) -> None:
    truth, scores = torch.tensor([0, 0]), torch.tensor([[0.9, 0.1], [0.3, 0.7]])

    paths = write_report(tmp_path, {}, truth, scores, measure(truth, scores, ["a", "b"]))

    assert paths[1].stat().st_size > 5000
