"""Our figures are listed with those of the source: means over seeds, the range, and the classes of the first seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lensmount_adapters.recipe.carry_out import RunResult
from lensmount_adapters.recipe.recipe import load_recipe
from lensmount_adapters.recipe.table import table, write_tables


def result(seed: int, accuracy: float, seconds: float) -> RunResult:
    fields: dict[str, Any] = dict.fromkeys(RunResult.__dataclass_fields__)
    classes = [
        {"label": "a|b", "precision": 0.5, "recall": 0.25, "f1": 1 / 3},
        {"label": "c", "precision": 1, "recall": 1, "f1": 1},
    ]
    metrics = {
        "count": 1234,
        "accuracy": accuracy,
        "balanced_accuracy": accuracy / 2,
        "classes": classes,
        "confusion": [[1, 3], [0, 4]],
    }
    fields |= {"run": "head", "images": "smoking", "seed": seed, "metrics": metrics, "trained_parameters": 1026}
    fields |= {"share": 0.0123, "file_bytes": 250_000, "seconds": seconds}
    return RunResult(**fields)


def test_a_row_has_the_mean_of_all_seeds_with_its_range_and_the_median_time() -> None:
    shown = table(load_recipe("smoking-resnet34"), [result(0, 0.5, 10), result(1, 0.75, 30), result(2, 1.0, 11)])

    (row,) = [line for line in shown.splitlines() if line.startswith("| head | smoking, 1,234 tested |")]
    assert "| 0.750 (0.500 to 1.000, 3 seeds) | 0.375 (0.250 to 0.500, 3 seeds) | 1,026 | 1.23 % | 0.25 MB |" in row
    assert row.endswith("| 11 s |")


def test_a_class_has_one_row_and_its_label_does_not_break_the_table() -> None:
    shown = table(load_recipe("smoking-resnet34"), [result(0, 0.5, 10)])

    lines = [line for line in shown.splitlines() if line.startswith("| head | smoking | ")]
    assert [line.split(" | ")[-4:-1] for line in lines] == [["0.500", "0.250", "0.333"], ["1.000", "1.000", "1.000"]]
    assert lines[0].count(" | ") == lines[1].count(" | ") == 6
    assert "| 1 / 3 (" in lines[0]


def test_the_files_have_the_table_and_every_figure_of_the_source(tmp_path: Path) -> None:
    recipe = load_recipe("smoking-resnet34")

    markdown, document = write_tables(tmp_path, recipe, [result(0, 0.5, 10)])

    assert markdown.read_text() == f"{table(recipe, [result(0, 0.5, 10)])}\n"
    written = json.loads(document.read_text())
    assert written["runs"][0]["metrics"]["confusion"] == [[1, 3], [0, 4]]
    assert [row["what"] for row in written["reported"]] == [row.what for row in recipe.reported]
