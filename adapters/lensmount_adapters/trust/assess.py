"""Whether promises are kept on other images, and what other thresholds would do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lensmount_adapters.adapter.trust import Operating, Trust
from lensmount_adapters.trust.conformal import fit_conformal, label_sets
from lensmount_adapters.trust.figures import figures
from lensmount_adapters.trust.fit import Wanted, fit_point
from lensmount_adapters.trust.selective import fit_selective

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


def assess(trust: Trust | None, labels: Sequence[str], truth: Indices, scores: Array) -> dict[str, Any]:
    """The four figures of `truth` [N] and `scores` [N, classes] with intervals, and how each promise was kept.

    `sets`, `accepted` and `point` are None where the file makes no promise.
    """
    found: dict[str, Any] = {"images": len(truth), **figures(truth, scores).to_fields()}
    found |= {"sets": None, "accepted": None, "point": None}
    if trust is None:
        return found
    if trust.conformal is not None:
        found["sets"] = _of_sets(label_sets(trust.conformal, scores), trust.conformal.coverage, labels, truth)
    if trust.selective is not None:
        taken = _accepted(trust.selective.threshold, scores)
        found["accepted"] = _of_accepted(taken, trust.selective.accuracy, truth, scores)
    if (point := trust.operating) is not None:
        found["point"] = _of_point(_called(point, labels, scores), point, labels, truth)
    return found


def assess_wanted(
    labels: Sequence[str], truth: Indices, scores: Array, folds: Indices, wanted: Wanted
) -> dict[str, Any]:
    """What other thresholds would do: each fold is measured with those that the other folds choose.

    So no image helps to choose the threshold that it is measured with. `folds` [N] are those of `folds_of`; with one
    fold, nothing can be said.
    """
    if len(np.unique(folds)) == 1:
        return {"sets": None, "accepted": None, "point": None}
    sets, taken, called = np.ones_like(scores, bool), np.zeros(len(truth), bool), np.zeros(len(truth), bool)
    point: Operating | None = None
    for fold in np.unique(folds):
        rest, inside = folds != fold, folds == fold
        sets[inside] = label_sets(fit_conformal(truth[rest], scores[rest], wanted.coverage), scores[inside])
        threshold = fit_selective(truth[rest], scores[rest], wanted.accuracy).threshold
        taken[inside] = _accepted(threshold, scores[inside])
        if (point := fit_point(truth[rest], scores[rest], labels, wanted)) is not None:
            called[inside] = _called(point, labels, scores[inside])
    return {
        "sets": _of_sets(sets, wanted.coverage, labels, truth),
        "accepted": _of_accepted(taken, wanted.accuracy, truth, scores),
        "point": None if point is None else _of_point(called, point, labels, truth),
    }


def _accepted(threshold: float | None, scores: Array) -> Mask:
    found: Mask = scores.max(1) >= (np.inf if threshold is None else threshold)
    return found


def _called(point: Operating, labels: Sequence[str], scores: Array) -> Mask:
    """Which images are called positive; without a threshold those whose top score is the label's."""
    index = list(labels).index(point.positive)
    found: Mask = scores.argmax(1) == index if point.threshold is None else scores[:, index] >= point.threshold
    return found


def _of_sets(sets: Mask, promised: float, labels: Sequence[str], truth: Indices) -> dict[str, Any]:
    covered, sizes = sets[np.arange(len(truth)), truth], sets.sum(1)
    return {
        "promised": promised,
        "coverage": _share(covered),
        "classes": {label: _share(covered[truth == index]) for index, label in enumerate(labels)},
        "mean_size": round(float(sizes.mean()), 6),
        "single": _share(sizes == 1),
    }


def _of_accepted(taken: Mask, promised: float, truth: Indices, scores: Array) -> dict[str, Any]:
    right = scores.argmax(1) == truth
    return {"promised": promised, "share": _share(taken), "accuracy": _share(right[taken])}


def _of_point(called: Mask, point: Operating, labels: Sequence[str], truth: Indices) -> dict[str, Any]:
    positive = truth == list(labels).index(point.positive)
    return {
        "positive": point.positive,
        "promised": {point.kind: point.value},
        "sensitivity": _share(called[positive]),
        "specificity": _share(~called[~positive]),
    }


def _share(mask: Mask) -> float | None:
    """The share of images that are True; None of no images."""
    return round(float(mask.mean()), 6) if len(mask) else None
