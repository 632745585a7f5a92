"""The summary of a load test: requests, errors by code, rate and percentiles, in total and by target."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lensmount_client._bench.load import Measured, Sample


@dataclass(frozen=True)
class Latency:
    """Milliseconds."""

    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        ordered = sorted(1e3 * value for value in seconds)
        return cls(*(percentile(ordered, share) for share in (0.5, 0.9, 0.95, 0.99, 1.0)))


@dataclass(frozen=True)
class Figures:
    """Counts and latencies of the requests that should have started within the measured time.

    `per_s` differs: it is the number of requests answered within the measured time, per second. `latency` covers the
    successful requests; it is None if there was none. Failed requests are counted in `errors` by code.
    """

    requests: int
    errors: Mapping[str, int]
    per_s: float
    latency: Latency | None

    @property
    def failed(self) -> int:
        return sum(self.errors.values())


@dataclass(frozen=True)
class Summary:
    """`Summary.of(load.run())`; `messages` has one message per code; `busy` is the tool's own share of one core."""

    all: Figures
    targets: Mapping[str, Figures]
    messages: Mapping[str, str]
    busy: float

    @classmethod
    def of(cls, measured: Measured) -> Summary:
        by_target: dict[int, list[Sample]] = {}
        for sample in measured.samples:
            by_target.setdefault(sample.target, []).append(sample)
        names = [target.name for target in measured.load.targets]
        messages: dict[str, str] = {}
        for sample in measured.samples:
            if sample.error is not None and sample.start >= measured.begin:
                messages.setdefault(sample.error.code, str(sample.error))
        return cls(
            all=_figures(measured, measured.samples),
            targets={names[number]: _figures(measured, by_target[number]) for number in sorted(by_target)},
            messages=messages,
            busy=measured.busy,
        )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Interpolate linearly between the two nearest values, as numpy does by default. `ordered` is not empty."""
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def _figures(measured: Measured, samples: Sequence[Sample]) -> Figures:
    begin, end = measured.begin, measured.begin + measured.load.duration_s
    counted = [sample for sample in samples if sample.start >= begin]
    answered = [sample.end - sample.start for sample in counted if sample.error is None]
    answered_in_time = sum(sample.error is None and begin <= sample.end < end for sample in samples)
    return Figures(
        requests=len(counted),
        errors=dict(Counter(sample.error.code for sample in counted if sample.error is not None).most_common()),
        per_s=answered_in_time / measured.load.duration_s,
        latency=Latency.of(answered) if answered else None,
    )
