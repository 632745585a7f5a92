"""What is asked of a fleet: requests at random for adapters by zipf's law, in bursts, while servers die."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Failure:
    """A server that dies, or that is dead at the start, and when it is back with nothing in memory or on its disk."""

    server: int
    dies_at: float
    back_at: float


@dataclass(frozen=True)
class Workload:
    """`rate` requests per second with one image each, for `requests` requests.

    `cv` is the coefficient of variation of the gaps between them: 1 is a Poisson process, and with more they come in
    bursts (gamma). Adapter k, counted from 0, gets a share in proportion to (k + 1) ** -zipf.
    """

    adapters: int
    zipf: float
    rate: float
    requests: int
    cv: float = 1.0
    seed: int = 0
    failures: Sequence[Failure] = ()

    @cached_property
    def shares(self) -> Floats:
        weights = np.arange(1, self.adapters + 1, dtype=np.float64) ** -self.zipf
        return np.asarray(weights / weights.sum())

    def arrivals(self) -> tuple[list[float], list[int]]:
        """When each request comes, in seconds, and which adapter it asks for."""
        draw = np.random.default_rng(self.seed)
        shape = 1 / self.cv**2
        gaps = draw.gamma(shape, 1 / (shape * self.rate), self.requests)
        asked = np.searchsorted(np.cumsum(self.shares), draw.random(self.requests), side="right")
        return np.cumsum(gaps).tolist(), np.minimum(asked, self.adapters - 1).tolist()


def failures_of_an_hour(servers: int, share: float, at_s: float, restart_s: float) -> list[Failure]:
    """The failures of an hour in one moment, and as many servers that are just back: far more than in any second.

    A window of seconds would hardly have a failure at the real rate.
    """
    count = round(servers * share)
    back = [Failure(server, 0.0, 0.0) for server in range(count)]
    return back + [Failure(server, at_s, at_s + restart_s) for server in range(count, 2 * count)]
