"""Whether scores mean what they say: of the answers given with 80 % confidence, are 80 % right?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

BINS = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """The `count` answers whose confidence lies in (lower, upper]; the means are None where there are none."""

    lower: float
    upper: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """`error` is the expected calibration error: the mean distance of confidence and accuracy, bins weighed by images.

    `bins` make the reliability diagram. Guo et al. 2017 (arXiv 1706.04599), section 2.
    """

    error: float
    bins: tuple[Bin, ...]

    def to_json(self) -> dict[str, Any]:
        return {"expected_calibration_error": self.error, "bins": [asdict(found) for found in self.bins]}


def calibration(truth: Tensor, scores: Tensor, bins: int = BINS) -> Calibration:
    """Confidence against accuracy in bins of equal width, for class indices `truth` [N] and `scores` [N, classes].

    The confidence of an answer is its score, the highest of the image; a confidence of 0 belongs to the first bin.
    """
    y, s = truth.cpu().numpy(), scores.detach().cpu().double().numpy()
    confidence = s.max(axis=1)  # [N]
    right = s.argmax(axis=1) == y  # [N]
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)  # [N]
    found, error = [], 0.0
    for index in range(bins):
        inside = place == index
        count = int(inside.sum())
        mean = float(confidence[inside].mean()) if count else None
        share = float(right[inside].mean()) if count else None
        found.append(Bin(float(edges[index]), float(edges[index + 1]), count, mean, share))
        if mean is not None and share is not None:
            error += count / len(y) * abs(share - mean)
    return Calibration(error, tuple(found))
