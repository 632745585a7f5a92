"""The statistics of a load test."""

from __future__ import annotations

import random

import pytest

from lensmount_client import ServerUnreachable, TimedOut
from lensmount_client._bench.connection import Body
from lensmount_client._bench.load import Load, Measured, Sample, Target
from lensmount_client._bench.summary import Latency, Summary, percentile

TARGETS = [Target("malaria", "/predict?adapter=malaria"), Target("smoking", "/predict?adapter=smoking")]
IMAGE = [Body.raw(b"image")]


@pytest.mark.parametrize("count", [1, 2, 3, 10, 99, 100, 101, 1000])
def test_percentiles_are_those_of_numpy(count: int) -> None:
    numpy = pytest.importorskip("numpy")
    seconds = [random.Random(count + n).lognormvariate(-4, 1) for n in range(count)]
    expected = [1e3 * numpy.percentile(seconds, share) for share in (50, 90, 95, 99, 100)]
    latency = Latency.of(seconds)
    found = [latency.p50, latency.p90, latency.p95, latency.p99, latency.max]
    assert found == pytest.approx(expected, rel=1e-12)
    for share in (0.0, 0.001, 0.25, 1 / 3, 0.999):
        assert percentile(sorted(seconds), share) == pytest.approx(numpy.percentile(seconds, 100 * share), rel=1e-12)


def test_the_warm_up_does_not_count_and_the_rate_counts_what_was_answered_in_time() -> None:
    load = Load("http://x", TARGETS, IMAGE, duration_s=10, warmup_s=5)
    full, late = TimedOut("nothing for 1 s"), ServerUnreachable("broke")
    samples = [
        Sample(0, 104.0, 104.5, None),  # of the warm-up
        Sample(0, 104.1, 104.2, late),  # likewise
        Sample(0, 104.9, 105.1, None),  # began in the warm-up: counts for the rate alone
        Sample(0, 105.0, 105.3, None),
        Sample(1, 106.0, 106.1, None),
        Sample(1, 107.0, 108.0, full),
        Sample(1, 107.5, 108.0, full),
        Sample(0, 114.9, 119.9, None),  # answered late: counts for the latency, not for the rate
    ]
    summary = Summary.of(Measured(load, samples, begin=105.0, busy=0.01))
    assert (summary.all.requests, summary.all.errors, summary.all.failed) == (5, {"timed_out": 2}, 2)
    assert summary.all.per_s == pytest.approx(0.3)
    assert summary.all.latency is not None
    assert (summary.all.latency.p50, summary.all.latency.max) == pytest.approx((300, 5000))
    assert {name: figures.requests for name, figures in summary.targets.items()} == {"malaria": 2, "smoking": 3}
    assert summary.targets["malaria"].failed == 0
    assert summary.messages == {"timed_out": "nothing for 1 s"}


def test_a_run_without_answers_has_no_latency() -> None:
    samples = [Sample(0, 1.0, 2.0, TimedOut("late"))]
    figures = Summary.of(Measured(Load("http://x", TARGETS, IMAGE), samples, begin=0.0, busy=0.0)).all
    assert (figures.latency, figures.per_s, figures.errors) == (None, 0, {"timed_out": 1})
