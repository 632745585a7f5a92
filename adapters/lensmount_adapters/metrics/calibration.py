"""Calibration: of the predictions made with 80 % confidence, are 80 % correct?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

BINS = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """The `count` predictions whose confidence lies in (lower, upper]. The means are None for an empty bin."""

    lower: float
    upper: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """The expected calibration error and the bins of the reliability diagram.

    `error` is the mean distance between confidence and accuracy, with bins weighted by their number of images.
    Source: Guo et al. 2017 (arXiv 1706.04599), section 2.
    """

    error: float
    bins: tuple[Bin, ...]

    def to_json(self) -> dict[str, Any]:
        return {"expected_calibration_error": self.error, "bins": [asdict(entry) for entry in self.bins]}


def bins_of(confidence: NDArray[np.float64], bins: int = BINS) -> NDArray[np.int64]:
    """The number of the bin of equal width that holds each confidence [N] in [0, 1]."""
    edges = np.linspace(0, 1, bins + 1)
    found: NDArray[np.int64] = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    return found


def calibration(truth: Tensor, scores: Tensor, bins: int = BINS) -> Calibration:
    """Compare confidence with accuracy in bins of equal width, for class indices `truth` [N] and `scores` [N, classes].

    The confidence of a prediction is the highest score of its image. A confidence of 0 belongs to the first bin.
    """
    y, s = truth.cpu().numpy(), scores.detach().cpu().double().numpy()
    confidence = s.max(axis=1)  # [N]
    correct = s.argmax(axis=1) == y  # [N]
    edges = np.linspace(0, 1, bins + 1)
    bin_of = bins_of(confidence, bins)  # [N]
    filled, error = [], 0.0
    for index in range(bins):
        inside = bin_of == index
        count = int(inside.sum())
        mean = float(confidence[inside].mean()) if count else None
        accuracy = float(correct[inside].mean()) if count else None
        filled.append(Bin(float(edges[index]), float(edges[index + 1]), count, mean, accuracy))
        if mean is not None and accuracy is not None:
            error += count / len(y) * abs(accuracy - mean)
    return Calibration(error, tuple(filled))
