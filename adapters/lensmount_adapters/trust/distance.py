"""How unlike the training images one image is, by the statistics in an adapter file: all that a server needs.

    distance(x) = min over classes c of  sum_i (b_i . (x - m_c))^2 / s_i^2  +  |rest|^2 / r^2

x [D] are the pooled activations, m_c is the mean of a class. b_i and s_i are directions and standard deviations of the
shared covariance, and r is the standard deviation along every other direction, where `rest` lies (Lee et al., arXiv
1807.03888; both terms together as in ViM, arXiv 2203.10807).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lensmount_adapters.adapter.trust import QUANTILES
from lensmount_adapters.adapter.trust_check import AdapterTrust, Statistics

Array = NDArray[np.float64]
Vectors = NDArray[np.floating]
PERCENTS = np.linspace(0, 100, QUANTILES)


def distances(statistics: Statistics, x: Array) -> Array:
    """The squared distance [N] of vectors `x` [N, D] to the nearest class, in float64."""
    nearest = np.full(len(x), np.inf)
    for mean in statistics.means:
        nearest = np.minimum(nearest, _lengths(statistics, x - mean))
    return nearest


def percentile_of(trust: AdapterTrust | None, pooled: Vectors | None) -> float | None:
    """How many per cent of the held-out images are less unlike than the one with this vector [D]; None if unknown.

    It is unknown if the file's statistics are of vectors of another width.
    """
    if trust is None or trust.statistics is None or trust.block.familiarity is None or pooled is None:
        return None
    if pooled.shape != trust.statistics.means.shape[1:]:
        return None
    if not np.isfinite(pooled).all():
        return 100.0
    distance = _lengths(trust.statistics, pooled.astype(np.float64) - trust.statistics.means).min()
    return float(np.interp(distance, trust.block.familiarity.quantiles, PERCENTS))


def _lengths(statistics: Statistics, z: Array) -> Array:
    """The squared lengths [N] of differences `z` [N, D], in standard deviations."""
    along = z @ statistics.basis.T  # [N, k]
    rest = z - along @ statistics.basis
    lengths: Array = np.square(along / statistics.scales).sum(1) + np.square(rest).sum(1) / statistics.residual**2
    return lengths
