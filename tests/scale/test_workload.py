"""What is asked of a fleet has the statistics that it claims."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.scale.workload import Workload, failures_of_an_hour


@pytest.mark.parametrize(("zipf", "shares"), [(0.7, (0.05, 0.24)), (0.9, (0.21, 0.52)), (1.1, (0.53, 0.82))])
def test_the_most_requested_of_a_million_adapters_have_the_share_of_the_exact_sums(
    zipf: float, shares: tuple[float, float]
) -> None:
    found = Workload(10**6, zipf, 1.0, 1).shares
    assert (round(found[:100].sum(), 2), round(found[:10_000].sum(), 2)) == shares


@pytest.mark.parametrize("cv", [1.0, 4.0])
def test_arrivals_have_the_rate_the_bursts_and_the_adapters_that_were_asked_for(cv: float) -> None:
    workload = Workload(50, 1.0, 200.0, 200_000, cv=cv, seed=3)
    times, adapters = workload.arrivals()
    gaps = np.diff(times)
    assert 1 / gaps.mean() == pytest.approx(200, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03)
    assert np.bincount(adapters, minlength=50) / len(adapters) == pytest.approx(workload.shares, abs=0.003)


def test_the_failures_of_an_hour_come_at_once_and_as_many_servers_are_just_back() -> None:
    failures = failures_of_an_hour(1000, 0.01, 3.0, 19.0)
    assert sum(failure.back_at == 0 for failure in failures) == sum(failure.back_at == 22 for failure in failures) == 10
    assert len({failure.server for failure in failures}) == 20
