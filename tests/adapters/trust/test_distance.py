"""The distance of one image, compared with the inverse of the whole covariance matrix in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lensmount_adapters import Backbone, admit, dump_adapter
from lensmount_adapters.adapter.trust_check import AdapterTrust
from lensmount_adapters.trust.distance import distances, percentile_of


@pytest.fixture
def trust(small_backbone: Backbone, draw_adapter: Callable[..., Any], draw_trust: Callable[..., Any]) -> AdapterTrust:
    """Statistics of 24 numbers in 5 directions; quantiles 0, 0.5, ..., 50."""
    admitted = admit(dump_adapter(*draw_trust(small_backbone, draw_adapter(small_backbone))), small_backbone)
    assert admitted.trust is not None
    return admitted.trust


def test_it_is_the_distance_by_the_whole_covariance_to_the_nearest_class(trust: AdapterTrust) -> None:
    statistics = trust.statistics
    assert statistics is not None
    x = np.random.default_rng(1).normal(size=(7, 24))
    basis = np.linalg.qr(statistics.basis.T.astype(np.float64))[0]  # float16 in the file is not exactly orthonormal
    covariance = basis @ np.diag(statistics.scales.astype(np.float64) ** 2) @ basis.T
    covariance += statistics.residual**2 * (np.eye(24) - basis @ basis.T)
    z = x[:, None] - statistics.means.astype(np.float64)
    expected = np.einsum("ncd,de,nce->nc", z, np.linalg.inv(covariance), z).min(1)

    assert distances(statistics, x) == pytest.approx(expected, rel=2e-3)


def test_the_percentile_lies_between_the_quantiles_and_stops_at_both_ends(trust: AdapterTrust) -> None:
    assert trust.statistics is not None
    mean, away = trust.statistics.means[0], trust.statistics.basis[0] / np.linalg.norm(trust.statistics.basis[0])
    assert percentile_of(trust, mean) == 0
    five = mean + np.sqrt(5.25) * trust.statistics.scales[0] * away  # 5.25 is half way from the 10th to the 11th
    assert percentile_of(trust, five) == pytest.approx(10.5, abs=0.05)
    assert percentile_of(trust, mean + 1000) == 100


def test_what_is_not_known_has_no_percentile_and_what_is_no_number_has_the_highest(trust: AdapterTrust) -> None:
    assert percentile_of(None, np.zeros(24, np.float32)) is None
    assert percentile_of(trust, None) is None
    assert percentile_of(AdapterTrust(trust.block, None), np.zeros(24, np.float32)) is None
    assert percentile_of(trust, np.zeros(23, np.float32)) is None
    assert percentile_of(trust, np.full(24, np.nan, np.float32)) == 100
    assert percentile_of(trust, np.full(24, 3e38, np.float32)) == 100
