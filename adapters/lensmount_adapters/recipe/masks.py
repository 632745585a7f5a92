"""A recipe's runs that learn masks: trained, and compared with Otsu's threshold and with the base they stand on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.atomic import write_atomic
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.metrics.masks import MaskMetrics, measure_masks
from lensmount_adapters.report.card import duration
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.loop import Listener
from lensmount_adapters.training.segmentation import MaskTask
from lensmount_adapters.training.train_masks import (
    SegmentationResult,
    judge_masks,
    train_base,
    train_segmentation,
)


def weights_beside(out: Path) -> Path:
    """Where a base's weights lie: "base-nuclei-s0.safetensors" -> "base-nuclei-s0-weights.safetensors"."""
    return out.with_name(f"{out.stem}-weights{out.suffix}")


def carry_out_masks(
    config: TrainingConfig, backbone: Backbone, base: Path | None, listener: Listener
) -> tuple[SegmentationResult, dict[str, Any]]:
    """Train the run, a base where `base` is its own file; the figures of the test part, its own and those `beside`.

    `base` is the adapter of the base that a run stands on. Raises TrainingError, DatasetError.
    """
    if base == config.out:
        result = train_base(config, weights_beside(config.out), listener, backbone)
    else:
        result = train_segmentation(config, listener, backbone)
    if result.test is None:
        raise TrainingError(f"found no test part of {config.data.name}, expected one to measure on. Fix: test_fraction")
    beside = {"otsu": otsu(result.task)}
    if base is not None and base != config.out:
        beside["base"] = judge_masks(admit(base.read_bytes(), backbone), backbone, result.task, "test")
    figures = result.test.to_json() | {"beside": {name: metrics.to_json() for name, metrics in beside.items()}}
    folder = config.out.with_name(f"{config.out.stem}-report")
    folder.mkdir(exist_ok=True)
    write_atomic(folder / "metrics.json", f"{json.dumps(figures, indent=2)}\n".encode())
    return result, figures


def otsu(task: MaskTask) -> MaskMetrics:
    """The test part by Otsu's threshold (scikit-image) of the grey picture.

    Whether the mask is what is brighter or what is darker is whichever fits the training part better.
    """
    dark = max((False, True), key=lambda side: _otsu(task, "train", dark=side).dice)
    return _otsu(task, "test", dark=dark)


def _otsu(task: MaskTask, part: str, *, dark: bool) -> MaskMetrics:
    try:
        from skimage.filters import threshold_otsu
    except ModuleNotFoundError as error:
        raise TrainingError(
            'Otsu\'s threshold needs scikit-image, which is not installed. Fix: pip install "lensmount[serve]"'
        ) from error

    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for sample in task.samples(part):
        picture = task.folder.image(sample)
        grey = np.asarray(picture.convert("L"))
        above = grey > threshold_otsu(grey)
        pairs.append((task.folder.masks(sample, picture.size), (~above if dark else above)[None]))
    return measure_masks(pairs, task.folder.labels)


def mask_rows(groups: Sequence[Sequence[Any]]) -> list[str]:
    """A Markdown table, a row for each run: its outcomes are those of its seeds, of which the means are shown."""
    rows = ["| run | tested | Dice | IoU | base alone | Otsu | trained parameters | share | file | time |"]
    rows.append("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for group in groups:
        first = group[0]

        def mean(*path: str, group: Sequence[Any] = group) -> str:
            found = [_at(outcome.metrics, path) for outcome in group]
            return "" if None in found else f"{sum(found) / len(found):.3f}"

        rows.append(
            f"| {first.run} | {first.metrics['count']} | {mean('dice')} | {mean('iou')} "
            f"| {mean('beside', 'base', 'dice')} | {mean('beside', 'otsu', 'dice')} "
            f"| {first.trained_parameters:,} | {100 * first.share:.2f} % | {first.file_bytes / 1e6:.2f} MB "
            f"| {duration(first.seconds)} |"
        )
    return rows


def _at(document: Any, path: Sequence[str]) -> Any:
    for key in path:
        document = document.get(key, {})
    return document or None
