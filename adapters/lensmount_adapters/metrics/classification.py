"""Metrics of a classifier on one set of images, computed by scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn import metrics as sk
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """The metrics of one class. `count` images belong to it; `auroc` compares this class with the rest."""

    label: str
    precision: float
    recall: float
    f1: float
    count: int
    auroc: float | None


@dataclass(frozen=True, slots=True)
class ClassificationMetrics:
    """`confusion[i][j]` counts images of class i predicted as class j.

    `auroc` is the mean over classes, or None if undefined.
    """

    count: int
    accuracy: float
    balanced_accuracy: float
    auroc: float | None
    log_loss: float
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(truth: Tensor, scores: Tensor, labels: Sequence[str]) -> ClassificationMetrics:
    """Compute the metrics for class indices `truth` [N] and `scores` [N, classes] in [0, 1].

    Balanced accuracy is the mean recall of the classes that occur. AUROC is one-vs-rest; with two classes both AUROCs
    are equal.
    """
    y, s = truth.cpu().numpy(), scores.detach().cpu().double().numpy()
    predicted = s.argmax(axis=1)
    order = list(range(len(labels)))
    precision, recall, f1, count = sk.precision_recall_fscore_support(y, predicted, labels=order, zero_division=0.0)
    confusion = sk.confusion_matrix(y, predicted, labels=order)
    aurocs = [_auroc(y == index, s[:, index]) for index in order]
    known = [value for value in aurocs if value is not None]
    occurring = count > 0
    return ClassificationMetrics(
        count=len(y),
        accuracy=float((predicted == y).mean()),
        balanced_accuracy=float(recall[occurring].mean()),
        auroc=float(np.mean(known)) if known else None,
        log_loss=float(-np.log(np.clip(s[np.arange(len(y)), y], 1e-12, 1.0)).mean()),
        classes=tuple(
            ClassMetrics(labels[i], float(precision[i]), float(recall[i]), float(f1[i]), int(count[i]), aurocs[i])
            for i in order
        ),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
    )


def wilson(correct: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's interval for the share `correct / count` (95 % for z = 1.96). `count` must be at least 1."""
    share = correct / count
    middle = share + z * z / (2 * count)
    spread = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    scale = 1 + z * z / count
    return (middle - spread) / scale, (middle + spread) / scale


def _auroc(positive: np.ndarray, score: np.ndarray) -> float | None:
    if positive.all() or not positive.any():
        return None
    return float(sk.roc_auc_score(positive, score))
