"""How well masks match: Dice and intersection over union per label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class MaskMetrics:
    """Means over images and labels of Dice, `2 |A n B| / (|A| + |B|)`, and IoU, `|A n B| / |A u B|`.

    Two empty masks score 1. `labels` has the mean Dice of each label, `worst` is the lowest mean Dice of an image.
    """

    count: int
    dice: float
    iou: float
    worst: float
    labels: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_masks(pairs: Sequence[tuple[np.ndarray, np.ndarray]], labels: Sequence[str]) -> MaskMetrics:
    """Compute the metrics from one pair (truth, predicted) per image, both bool [labels, height, width]."""
    dices = np.array([dice(truth, predicted) for truth, predicted in pairs])  # [N, labels]
    return MaskMetrics(
        count=len(pairs),
        dice=float(dices.mean()),
        iou=float((dices / (2 - dices)).mean()),
        worst=float(dices.mean(1).min()),
        labels={label: float(mean) for label, mean in zip(labels, dices.mean(0), strict=True)},
    )


def dice(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the Dice score of each label, [labels], for two bool arrays [labels, height, width]."""
    both = (truth & predicted).sum((1, 2))
    total = truth.sum((1, 2)) + predicted.sum((1, 2))
    scores: np.ndarray = np.where(total > 0, 2 * both / np.maximum(total, 1), 1.0)
    return scores
