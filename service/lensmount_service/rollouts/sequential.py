"""Tests that may be looked at after every observation: their level holds for the whole run, however often one looks.

Each test multiplies what a bet against the null hypothesis would have made of 1. Under the null such a product is a
supermartingale, so it ever reaches 1 / level with probability at most `level` (Ville 1939). A test that assumes a fixed
number of observations has no such level: looked at 10,000 times, it rejects a true null far more often than stated.

Both products depend on sums alone, not on the order of the observations, so those of several servers can be added.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

BETS = np.array([0.95, 0.45, 0.15])  # for steady differences, and for rare ones
CAPITAL = np.array([0.6, 0.25, 0.15])  # what is bet each way, of 1 in all
NOTHING = -700.0  # the logarithm of no evidence at all; exp() of it is not 0 yet


def log_evidence(hits: float, misses: float, chance: float) -> float:
    """The logarithm of the evidence that hits are more frequent than `chance`, after this many hits and misses.

        E = mean over p in (chance, 1) of (p / chance)^hits ((1 - p) / (1 - chance))^misses

    which is an incomplete Beta integral: Robbins' mixture of likelihood ratios (Ann. Math. Statist. 41:1397, 1970).
    If an observation is a hit in the part x of [0, 1], it adds x hits or x misses: a^x <= 1 - x + x a for any a > 0, so
    the product is a supermartingale still. Nothing can be said with a chance of 0 or 1, and the answer is 0 then.

    For an event that happens at a rate that changes with time, `hits` are those of the canary, `misses` those of the
    stable version, and the chance is that of `chance_of`: Lindon and Malek, NeurIPS 2022 (arXiv 2011.03567).
    """
    if not 0 < chance < 1 or hits + misses == 0:
        return 0.0
    from scipy.special import betaincc, betaln  # half a second to import; a server without rollouts never does

    area = betaincc(hits + 1, misses + 1, chance)
    if area <= 0:  # far fewer hits than by chance
        return NOTHING
    integral = float(betaln(hits + 1, misses + 1)) + math.log(area)
    return max(NOTHING, integral - hits * math.log(chance) - (misses + 1) * math.log1p(-chance))


def chance_of(share: float, times: float = 1.0) -> float:
    """The chance that an event is the canary's, if it answers `share` of the requests and has events `times` as often.

    It stays the same when the rate of events changes with time, for both versions alike, because every request is
    given to the canary with the same probability. So a burst of difficult images is no evidence against it.
    """
    return share * times / (share * times + 1 - share)


def log_wealth(gains: NDArray[np.float64], most_lost: float) -> float:
    """The logarithm of the evidence that the mean of `gains` [N] is above 0; none is below `-most_lost`.

        E = sum over bets b of capital_b times the product over i of (1 + b gains_i / most_lost)

    Betting with several fixed fractions at once: Waudby-Smith and Ramdas (J. R. Statist. Soc. B 86:1, 2024), their
    diversified Kelly bettor. Gains that are nearly always small and of one sign give evidence after a few dozen.
    """
    if not len(gains):
        return 0.0
    grown = np.log1p(np.outer(BETS, gains / most_lost)).sum(axis=1)  # [bets]
    return max(NOTHING, float(np.logaddexp.reduce(np.log(CAPITAL) + grown)))


def p_value(log_evidence: float) -> float:
    """How surprising the evidence is under the null. It is valid at any time, whatever the reason to look then."""
    return min(1.0, math.exp(-max(NOTHING, min(-NOTHING, log_evidence))))


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided exact p-value for images that only one of two versions got right.

    It holds for one look at a number of images that was fixed before. Source: McNemar 1947, doi:10.1007/BF02295996.
    """
    from scipy.stats import binomtest  # half a second to import; a server without rollouts never does

    together = only_first + only_second
    return float(binomtest(only_first, together).pvalue) if together else 1.0
