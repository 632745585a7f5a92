"""A share with Wilson's interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lensmount_adapters.metrics.share import Share


@pytest.mark.parametrize("of", [1, 2, 7, 40, 600])
def test_the_interval_is_wilson_s_as_scipy_computes_it(of: int) -> None:
    for count in range(of + 1):
        share = Share(count, of)
        expected = stats.binomtest(count, of).proportion_ci(0.95, method="wilson")
        assert (share.value, share.low, share.high) == pytest.approx((count / of, *expected), abs=2e-5)


def test_the_interval_holds_the_truth_in_95_of_100_samples() -> None:
    for truth, of in ((0.95, 60), (0.7, 30), (0.5, 200)):
        drawn = np.random.default_rng(0).binomial(of, truth, 4000)
        inside = [Share(int(count), of).low <= truth <= Share(int(count), of).high for count in drawn]
        assert 0.92 < np.mean(inside) < 0.98


def test_of_no_images_there_is_no_share() -> None:
    assert Share.among(0, 0) is None
    assert Share.among(1, 4) == Share(1, 4)


def test_it_is_written_with_count_and_denominator() -> None:
    assert Share(3, 4).to_json() == {
        "value": 0.75, "low": pytest.approx(0.3006, abs=1e-4), "high": pytest.approx(0.9544, abs=1e-4),
        "count": 3, "of": 4,
    }  # fmt: skip
