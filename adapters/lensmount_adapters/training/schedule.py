"""The schedule of a run: its length, its learning rate, early stopping, the epoch to keep and its temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


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


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T in [0.2, 5] for which `softmax(logits / T)` has the lowest log loss (arXiv 1706.04599).

    The labels are smoothed as in Platt 1999 (one doubtful image in `n + 2` of a class), because twenty images that are
    all classified correctly do not prove certainty.
    """
    classes = logits.shape[1]
    doubt = classes / ((classes - 1) * (len(labels) / classes + 2)) if classes > 1 else 0.0
    candidates = torch.logspace(math.log10(0.2), math.log10(5), 201, dtype=torch.float64)
    losses = [float(F.cross_entropy(logits.double() / t, labels, label_smoothing=doubt)) for t in candidates]
    return round(float(candidates[losses.index(min(losses))]), 4)


def _validation_accuracies(history: Sequence[EpochRecord]) -> list[float]:
    accuracies = (record.validation_balanced_accuracy for record in history)
    return [accuracy for accuracy in accuracies if accuracy is not None]
