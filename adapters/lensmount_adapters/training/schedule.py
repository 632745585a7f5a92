"""The schedule of a run: its length, its learning rate, early stopping, and the epoch to keep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch of the training history. The validation figures are None without a validation part.

    `validation_loss` is the log loss at the epoch's own best temperature, with which the file would be served. Without
    it, the growing confidence of later epochs hides that they rank better.
    """

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float | None
    validation_balanced_accuracy: float | None
    seconds: float = 0.0


def learning_rate_at(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear warm-up over the share `warmup` of the steps, then half a cosine down to zero. Steps count from 0."""
    rising = int(warmup * steps)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def automatic_epochs(steps: int) -> int:
    """The number of epochs that gives 100 optimiser steps at `steps` per epoch, between 12 and 100.

    Small datasets need more epochs.
    """
    return min(100, max(12, math.ceil(100 / steps)))


def is_best_so_far(history: Sequence[EpochRecord], images: int) -> bool:
    """Whether to keep the last epoch: its balanced accuracy on validation is within one standard error of the best.

    This is the one-standard-error rule (Breiman et al. 1984) in favour of the later epoch: on a hundred images the very
    best epoch is often an early one that was lucky. Without a validation part the last epoch is always kept.
    """
    accuracies = _validation_accuracies(history)
    if not accuracies:
        return True
    best = max(accuracies)
    return accuracies[-1] >= best - math.sqrt(best * (1 - best) / images)


def has_stalled(history: Sequence[EpochRecord], patience: int | None) -> bool:
    """Whether the last `patience` epochs did not improve the balanced accuracy on validation (early stopping)."""
    accuracies = _validation_accuracies(history)
    if patience is None or len(accuracies) <= patience:
        return False
    return max(accuracies[-patience:]) <= max(accuracies[:-patience])


def _validation_accuracies(history: Sequence[EpochRecord]) -> list[float]:
    accuracies = (record.validation_balanced_accuracy for record in history)
    return [accuracy for accuracy in accuracies if accuracy is not None]
