"""Sets of labels that hold the right one as often as promised, in each class: split conformal prediction by class.

A promise of `coverage` needs `ceil((n + 1) coverage) <= n` images of a class: 19 for 95 %, 99 for 99 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lensmount_adapters.adapter.trust import Conformal

RAPS_FROM = 5  # classes; with fewer, LAC has the smaller sets (arXiv 1609.00451)
PENALTIES = (0.001, 0.01, 0.1, 0.2, 0.5)  # those of the paper, arXiv 2009.14193, table 5
STRATA = (1, 3, 6, 10, 100, 1000)  # sizes of sets up to which coverage is compared, as in the paper

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


def images_needed(coverage: float) -> int:
    """The number of calibration images of a class from which on the coverage can be promised."""
    return next(n for n in range(1, 100_001) if _rank(n, coverage) <= n)


def fit_conformal(truth: Indices, scores: Array, coverage: float) -> Conformal:
    """Thresholds for each class from `truth` [N] and `scores` [N, classes] of images that trained nothing.

    Two to four classes: LAC. From five on: RAPS, whose penalty is the one with the most even coverage over the sizes of
    the sets ("adaptive lambda"), found by fitting on one half of the images and measuring on the other.
    """
    classes = scores.shape[1]
    counts = tuple(int(count) for count in np.bincount(truth, minlength=classes))
    if classes < RAPS_FROM:
        own = 1 - scores[np.arange(len(truth)), truth]
        return Conformal(
            coverage=coverage, method="lac", thresholds=_thresholds(own, truth, counts, coverage), images=counts
        )
    free = _free_ranks(truth, scores, coverage)
    penalty = _adaptive_penalty(truth, scores, coverage, free)
    own = nonconformity(scores, penalty, free)[np.arange(len(truth)), truth]
    thresholds = _thresholds(own, truth, counts, coverage)
    return Conformal(
        coverage=coverage, method="raps", thresholds=thresholds, images=counts, penalty=penalty, free_ranks=free
    )


def label_sets(conformal: Conformal, scores: Array) -> NDArray[np.bool_]:
    """Which labels belong to the set of each image, [N, classes]. A label without a threshold belongs to every set."""
    values = 1 - scores if conformal.method == "lac" else nonconformity(scores, conformal.penalty, conformal.free_ranks)
    limits = np.array([math.inf if limit is None else limit for limit in conformal.thresholds])
    found: NDArray[np.bool_] = values <= limits
    return found


def nonconformity(scores: Array, penalty: float, free_ranks: int) -> Array:
    """RAPS without randomisation (U = 0): the sum of the scores above each label, and the penalty for its rank.

    The label's own score is left out. With it (U = 1), the surest images would have empty sets.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.arange(1, scores.shape[1] + 1)
    above = np.zeros_like(scores)
    above[:, 1:] = np.cumsum(np.take_along_axis(scores, order, 1), 1)[:, :-1]
    by_rank = above + penalty * np.maximum(ranks - free_ranks, 0)
    found = np.empty_like(scores)
    np.put_along_axis(found, order, by_rank, 1)
    return found


def _rank(images: int, coverage: float) -> int:
    """Which of the ascending scores of `images` images is the threshold."""
    return math.ceil((images + 1) * coverage - 1e-9)  # 1e-9: products such as 20 * 0.95 may round up


def _thresholds(own: Array, truth: Indices, counts: Sequence[int], coverage: float) -> tuple[float | None, ...]:
    found: list[float | None] = []
    for label, count in enumerate(counts):
        rank = _rank(count, coverage)
        found.append(float(np.sort(own[truth == label])[rank - 1]) if 0 < rank <= count else None)
    return tuple(found)


def _free_ranks(truth: Indices, scores: Array, coverage: float) -> int:
    """The rank of the right label that `coverage` of the images do not exceed: ranks up to it cost nothing."""
    own = scores[np.arange(len(truth)), truth]
    ranks = np.sort(1 + (scores > own[:, None]).sum(1))
    return int(ranks[min(_rank(len(ranks), coverage), len(ranks)) - 1])


def _adaptive_penalty(truth: Indices, scores: Array, coverage: float, free_ranks: int) -> float:
    """The penalty for which coverage differs least from what is promised, in the worst stratum of set sizes."""
    halves = [np.arange(start, len(truth), 2) for start in (0, 1)]
    worst = {}
    for penalty in PENALTIES:
        values = nonconformity(scores, penalty, free_ranks)
        own = values[np.arange(len(truth)), truth]
        covered, sizes = np.empty(len(truth), bool), np.empty(len(truth), int)
        for fit, measure in (halves, halves[::-1]):
            counts = np.bincount(truth[fit], minlength=scores.shape[1]).tolist()
            limits = [math.inf if t is None else t for t in _thresholds(own[fit], truth[fit], counts, coverage)]
            covered[measure] = own[measure] <= np.array(limits)[truth[measure]]
            sizes[measure] = (values[measure] <= np.array(limits)).sum(1)
        strata = np.searchsorted(STRATA, sizes)
        worst[penalty] = max(abs(float(covered[strata == s].mean()) - coverage) for s in np.unique(strata))
    return min(worst, key=lambda penalty: (worst[penalty], penalty))
