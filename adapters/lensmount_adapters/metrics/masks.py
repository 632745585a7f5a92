"""How well masks match: Dice and intersection over union per label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class MaskMetrics:
    """Means over pictures and labels: Dice is `2 |A n B| / (|A| + |B|)`, IoU `|A n B| / |A u B|`; two empty masks: 1.

    `labels` gives the mean Dice of each label alone, `worst` the lowest of a picture.
    """

    count: int
    dice: float
    iou: float
    worst: float
    labels: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_masks(pairs: Sequence[tuple[np.ndarray, np.ndarray]], labels: Sequence[str]) -> MaskMetrics:
    """The figures for (truth, answer) of each picture, both bool [labels, height, width]."""
    dices = np.array([dice(truth, answer) for truth, answer in pairs])  # [N, labels]
    return MaskMetrics(
        count=len(pairs),
        dice=float(dices.mean()),
        iou=float((dices / (2 - dices)).mean()),
        worst=float(dices.mean(1).min()),
        labels={label: float(own) for label, own in zip(labels, dices.mean(0), strict=True)},
    )


def dice(truth: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Dice of each label [labels] of two bool arrays [labels, height, width]."""
    both = (truth & answer).sum((1, 2))
    all_of_it = truth.sum((1, 2)) + answer.sum((1, 2))
    found: np.ndarray = np.where(all_of_it > 0, 2 * both / np.maximum(all_of_it, 1), 1.0)
    return found
