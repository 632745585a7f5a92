"""Where to call an image positive, so that enough positive ones are found, or enough others are left alone."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lensmount_adapters.adapter.trust import Operating

Kind = Literal["sensitivity", "specificity"]


def fit_operating(
    truth: NDArray[np.int64], scores: NDArray[np.float64], positive: int, label: str, kind: Kind, value: float
) -> Operating:
    """The threshold on the score of class `positive`, called `label`, from images that trained nothing.

    A new image of the class that the promise is about keeps it with at least the probability `value`, as in conformal
    prediction: the k-th of n scores is passed by n + 1 - k of n + 1. None if n is too small: 49 for 98 %.
    """
    is_positive = truth == positive
    own = np.sort(scores[is_positive if kind == "sensitivity" else ~is_positive, positive])
    count, threshold = len(own), None
    if kind == "sensitivity" and (below := math.floor((count + 1) * (1 - value) + 1e-9)) >= 1:
        threshold = float(own[below - 1])
    elif kind == "specificity" and (rank := math.ceil((count + 1) * value - 1e-9)) <= count:
        threshold = min(1.0, float(np.nextafter(np.float32(own[rank - 1]), np.float32(2))))
    return Operating(positive=label, kind=kind, value=value, threshold=threshold, images=count)
