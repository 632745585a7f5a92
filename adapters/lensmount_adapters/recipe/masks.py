"""A recipe's runs that learn masks: trained, and compared with Otsu's threshold and with the base network."""

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
    score_masks,
    train_base,
    train_segmentation,
)


def base_weights(out: Path) -> Path:
    """The file with a base's weights: "base-nuclei-s0.safetensors" -> "base-nuclei-s0-weights.safetensors"."""
    return out.with_name(f"{out.stem}-weights{out.suffix}")


def carry_out_masks(
    config: TrainingConfig, backbone: Backbone, base: Path | None, listener: Listener
) -> tuple[SegmentationResult, dict[str, Any]]:
    """Train the run; returns its result and the metrics on the test part, those of other methods under `beside`.

    `base` is the adapter file of the base whose weights the backbone has; if it is the run's own file, the base itself
    is trained. Raises TrainingError or DatasetError.
    """
    if base == config.out:
        result = train_base(config, base_weights(config.out), listener, backbone)
    else:
        result = train_segmentation(config, listener, backbone)
    if result.test is None:
        raise TrainingError(
            f"found no test part of {config.data.name}, expected one to measure on. Fix: set test_fraction above 0"
        )
    others = {"otsu": otsu(result.task)}
    if base is not None and base != config.out:
        others["base"] = score_masks(admit(base.read_bytes(), backbone), backbone, result.task, "test")
    metrics = result.test.to_json() | {"beside": {name: other.to_json() for name, other in others.items()}}
    if result.notes:
        metrics["notes"] = list(result.notes)
    folder = config.out.with_name(f"{config.out.stem}-report")
    folder.mkdir(exist_ok=True)
    write_atomic(folder / "metrics.json", f"{json.dumps(metrics, indent=2)}\n".encode())
    return result, metrics


def otsu(task: MaskTask) -> MaskMetrics:
    """Masks of the test part by Otsu's threshold (scikit-image) on the grey image.

    The mask is either the brighter or the darker side, whichever fits the training part better.
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
        image = task.folder.image(sample)
        grey = np.asarray(image.convert("L"))
        above = grey > threshold_otsu(grey)
        truth = task.folder.mask(sample, image.size)
        pairs.append((truth.labels, truth.counted((~above if dark else above)[None])))
    return measure_masks(pairs, task.folder.labels)


def mask_rows(groups: Sequence[Sequence[Any]]) -> list[str]:
    """A Markdown table with one row per group; a group is the results of one run with all its seeds, shown as means."""
    rows = ["| run | tested | Dice | IoU | base alone | Otsu | trained parameters | share | file | time |"]
    rows.append("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for group in groups:
        first = group[0]

        def mean(*path: str, group: Sequence[Any] = group) -> str:
            values = [_at(result.metrics, path) for result in group]
            return "" if None in values else f"{sum(values) / len(values):.3f}"

        rows.append(
            f"| {first.run} | {first.metrics['count']} | {mean('dice')} | {mean('iou')} "
            f"| {mean('beside', 'base', 'dice')} | {mean('beside', 'otsu', 'dice')} "
            f"| {first.trained_parameters:,} | {100 * first.share:.2f} % | {first.file_bytes / 1e6:.2f} MB "
            f"| {duration(first.seconds)} |"
        )
    return rows


def _at(values: Any, path: Sequence[str]) -> Any:
    """The value at the path of nested keys; None if there is none."""
    for key in path:
        values = values.get(key, {})
    return values or None
