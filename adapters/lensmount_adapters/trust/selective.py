"""When to answer: the lowest top score at which answers are right as often as promised (selective classification)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lensmount_adapters.adapter.trust import Selective


def fit_selective(truth: NDArray[np.int64], scores: NDArray[np.float64], accuracy: float) -> Selective:
    """The threshold for `truth` [N] and `scores` [N, classes] of images that trained nothing.

    It accepts as many images as possible with `(errors + 1) / (accepted + 1) <= 1 - accuracy`: one more image may come,
    and it may be wrong. 99 % therefore need 99 accepted images without an error, and the threshold is None if no
    threshold accepts enough.
    """
    confidence, wrong = scores.max(1), scores.argmax(1) != truth
    values, first = np.unique(-confidence, return_inverse=True)  # the highest confidence first; equal ones together
    accepted = np.cumsum(np.bincount(first, minlength=len(values)))
    errors = np.cumsum(np.bincount(first, weights=wrong, minlength=len(values)))
    kept = np.flatnonzero((errors + 1) / (accepted + 1) <= 1 - accuracy + 1e-12)
    if not len(kept):
        return Selective(accuracy=accuracy, threshold=None, share=0.0, images=len(truth))
    last = int(kept[-1])
    share = float(accepted[last]) / len(truth)
    return Selective(accuracy=accuracy, threshold=float(-values[last]), share=round(share, 6), images=len(truth))
