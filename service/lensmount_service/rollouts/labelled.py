"""Whether the candidate answers worse than the stable version, on images whose label people gave.

Both versions compute each of these images, so difficult ones count against neither. Two things are compared: who is
right, and the Brier score, which gets worse as soon as a version is less sure of right answers or surer of wrong ones.
A version that learned from wrong labels shows it there many images earlier than in its accuracy.

People do not label all answers alike, and that must not count against the candidate. If they label right answers more
often than wrong ones, the version that answers most requests looks better than it is, and the other way round. So two
sums are made, and their evidence is averaged, which is evidence again:

* `full` has every image. It allows for right answers that are labelled up to twice as often as wrong ones, in
  the Brier score as far as its margin goes. Where the
  canary answers less than half, labels of wrong answers alone can only speak for it.
* `balanced` weighs the images by who had answered, so that both sides have the same total weight. It holds however
  people choose, and needs more images if the canary answers few of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lensmount_adapters.metrics.calibration import BINS, bins_of
from lensmount_service.rollouts.rows import Graded, Pair
from lensmount_service.rollouts.sequential import log_evidence, log_wealth, mcnemar

BRIER_MARGIN = 0.001  # how much worse the halved Brier score may be: docs/decisions.md has what it was chosen by
MORE_RIGHT = 2.0  # how much more often right answers may be labelled than wrong ones


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a version answers: `ece` with 15 bins, `brier` halved if there are two labels, as in an adapter file."""

    accuracy: float
    ece: float
    brier: float


@dataclass(frozen=True, slots=True)
class Labelled:
    """Both versions on the same images. The two last are logarithms of evidence, which `sequential.p_value` reads."""

    images: int
    stable: Quality
    candidate: Quality
    only_stable_right: int
    only_candidate_right: int
    mcnemar_p: float
    of_accuracy: float
    of_brier: float


def compared(pairs: Sequence[Pair]) -> Labelled | None:
    """None without images."""
    if not pairs:
        return None
    right = np.array([[pair.stable.right, pair.candidate.right] for pair in pairs], dtype=float)  # [N, 2]
    brier = np.array([[pair.stable.brier, pair.candidate.brier] for pair in pairs])  # [N, 2]
    worse = right[:, 0] - right[:, 1]  # [N]: 1 if only the stable version is right, -1 if only the candidate is
    gains = brier[:, 1] - brier[:, 0] - BRIER_MARGIN  # [N]
    full, balanced, chance = _weights(pairs)
    only_stable, only_candidate = worse > 0, worse < 0
    return Labelled(
        len(pairs),
        _quality([pair.stable for pair in pairs], pairs[0].classes),
        _quality([pair.candidate for pair in pairs], pairs[0].classes),
        int(only_stable.sum()),
        int(only_candidate.sum()),
        mcnemar(int(only_stable.sum()), int(only_candidate.sum())),
        _mean(
            log_evidence(float(full[only_stable].sum()), float(full[only_candidate].sum()), chance),
            log_evidence(float(balanced[only_stable].sum()), float(balanced[only_candidate].sum()), 0.5),
        ),
        _mean(log_wealth(full * gains, 1 + BRIER_MARGIN), log_wealth(balanced * gains, 1 + BRIER_MARGIN)),
    )


def _weights(pairs: Sequence[Pair]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Full and balanced weights [N], and the chance that only the stable version is right if one is, under `full`.

    If right answers are labelled r times as often as wrong ones, and the canary answers the part s, images that only
    the stable version has right are labelled ((1 - s) r + s) / ((1 - s) + s r) times as often as the opposite.
    """
    share = np.array([pair.share for pair in pairs])
    by_canary = np.array([pair.side == "canary" for pair in pairs])
    odds = share / np.maximum(1 - share, 1e-9)
    balanced = np.where(by_canary, np.minimum(1, 1 / np.maximum(odds, 1e-9)), np.minimum(1, odds))
    least = min(0.5, float(share.min()))
    chance = (MORE_RIGHT - least * (MORE_RIGHT - 1)) / (MORE_RIGHT + 1)
    return np.where(share <= 0.5, 1.0, balanced), balanced, chance


def _mean(first: float, second: float) -> float:
    """The logarithm of the mean of two kinds of evidence, of which the logarithms are given."""
    return float(np.logaddexp(first, second)) - math.log(2)


def _quality(graded: Sequence[Graded], classes: int) -> Quality:
    right = np.array([each.right for each in graded], dtype=float)
    top = np.array([each.top for each in graded])
    gaps = np.bincount(bins_of(top), weights=right - top, minlength=BINS)  # [bins], sums over the images of a bin
    half = float(np.mean([each.brier for each in graded]))
    return Quality(float(right.mean()), float(np.abs(gaps).sum() / len(graded)), half if classes == 2 else 2 * half)
