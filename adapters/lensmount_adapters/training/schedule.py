"""How a run goes: its length, its learning rate, which epoch is kept, and the temperature of what is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One line of the training's history; validation figures are None without a validation part.

    `validation_loss` is the log loss at the epoch's own best temperature, as the file will serve it: without that, the
    growing confidence of later epochs hides that they rank better.
    """

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float | None
    validation_balanced_accuracy: float | None
    seconds: float = 0.0


def learning_rate_at(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear warm-up over the `warmup` share of the steps, then half a cosine down to zero; steps count from 0."""
    rising = int(warmup * steps)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def automatic_epochs(steps: int) -> int:
    """12, or as many as make 100 optimiser steps at `steps` an epoch, 100 at most: few images need more rounds."""
    return min(100, max(12, math.ceil(100 / steps)))


def is_best_so_far(history: Sequence[EpochRecord], images: int) -> bool:
    """Whether the last epoch is to be kept: within one standard error of the best balanced accuracy on validation.

    The one-standard-error rule (Breiman et al. 1984) in favour of the later epoch: on a hundred images the very best
    epoch is often an early one that was lucky. Without a validation part the later epoch is always kept.
    """
    found = [record.validation_balanced_accuracy for record in history]
    accuracies = [accuracy for accuracy in found if accuracy is not None]
    if not accuracies:
        return True
    best = max(accuracies)
    return accuracies[-1] >= best - math.sqrt(best * (1 - best) / images)


def has_stalled(history: Sequence[EpochRecord], patience: int | None) -> bool:
    """Whether the last `patience` epochs brought no better balanced accuracy on validation (early stopping)."""
    found = [record.validation_balanced_accuracy for record in history]
    accuracies = [accuracy for accuracy in found if accuracy is not None]
    if patience is None or len(accuracies) <= patience:
        return False
    return max(accuracies[-patience:]) <= max(accuracies[:-patience])


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature in [0.2, 5] under which `softmax(logits / T)` has the least log loss (arXiv 1706.04599).

    The labels are smoothed as in Platt 1999 (one doubtful image in `n + 2` of a class): twenty images that all come out
    right are no proof of certainty.
    """
    classes = logits.shape[1]
    doubt = classes / ((classes - 1) * (len(labels) / classes + 2)) if classes > 1 else 0.0
    candidates = torch.logspace(math.log10(0.2), math.log10(5), 201, dtype=torch.float64)
    losses = [float(F.cross_entropy(logits.double() / t, labels, label_smoothing=doubt)) for t in candidates]
    return round(float(candidates[losses.index(min(losses))]), 4)
