"""A recipe's results next to the figures of its source, as one Markdown table and one JSON document."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median
from typing import Any

from lensmount_adapters.atomic import write_atomic
from lensmount_adapters.recipe.carry_out import RunResult
from lensmount_adapters.recipe.masks import mask_rows
from lensmount_adapters.recipe.recipe import Recipe
from lensmount_adapters.report.card import duration, plain


def write_tables(folder: Path, recipe: Recipe, results: Sequence[RunResult]) -> list[Path]:
    """Write `table.md` and `table.json` into `folder`; returns the paths. Raises OSError."""
    document = {
        "recipe": recipe.name,
        "title": recipe.title,
        "source": recipe.source,
        "reported": [row.model_dump() for row in recipe.reported],
        "runs": [asdict(result) for result in results],
    }
    texts = {"table.md": table(recipe, results), "table.json": json.dumps(document, indent=2, ensure_ascii=False)}
    for name, text in texts.items():
        write_atomic(folder / name, f"{text}\n".encode())
    return [folder / name for name in texts]


def table(recipe: Recipe, results: Sequence[RunResult]) -> str:
    """One row per figure of the source, then one per run and image set over all seeds; then a table of the classes."""
    groups: dict[tuple[str, str], list[RunResult]] = {}
    for result in results:
        groups.setdefault((result.run, result.images), []).append(result)
    if all("dice" in result.metrics for result in results):
        return "\n".join(mask_rows(list(groups.values())))
    return "\n".join(
        [
            "| run | images | accuracy | balanced | trained parameters | share | file | time |",
            "|---|---|---|---|---:|---:|---:|---:|",
            *(
                f"| source: {plain(row.what)} | {plain(row.images)} | {_share(row.accuracy, 3)} | "
                f"| {_number(row.trained_parameters)} | {_percent(row.share)} | | |"
                for row in recipe.reported
            ),
            *(_row(group) for group in groups.values()),
            "",
            "| run | images | class | precision | recall | F1 | predicted as |",
            "|---|---|---|---|---|---|---|",
            *(line for group in groups.values() for line in _classes(group)),
        ]
    )


def _row(group: list[RunResult]) -> str:
    """Means over the seeds with their range, and the median time."""
    first = group[0]
    tested = first.metrics["count"]
    return (
        f"| {first.run} | {plain(first.images)}, {tested:,} tested | {_over(group, 'accuracy')} "
        f"| {_over(group, 'balanced_accuracy')} | {first.trained_parameters:,} | {_percent(first.share)} "
        f"| {first.file_bytes / 1e6:.2f} MB | {duration(median(result.seconds for result in group))} |"
    )


def _classes(group: list[RunResult]) -> list[str]:
    """The metrics of the first seed for each class, with the row of the confusion matrix."""
    first = group[0]
    names = " / ".join(plain(row["label"]) for row in first.metrics["classes"])
    return [
        f"| {first.run} | {plain(first.images)} | {plain(row['label'])} | {row['precision']:.3f} | {row['recall']:.3f} "
        f"| {row['f1']:.3f} | {' / '.join(map(str, counts))} ({names}) |"
        for row, counts in zip(first.metrics["classes"], first.metrics["confusion"], strict=True)
    ]


def _over(group: list[RunResult], figure: str) -> str:
    values: list[Any] = [result.metrics[figure] for result in group]
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{mean(values):.3f} ({min(values):.3f} to {max(values):.3f}, {len(values)} seeds)"


def _share(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"
