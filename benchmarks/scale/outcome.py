"""What became of every request of a simulation, and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from benchmarks.scale.server_model import ServerModel
from benchmarks.scale.tiers import Tier
from numpy.typing import NDArray

WARM_UP = 0.2  # share of the requests that come first and are not counted
MET = 0.99  # share of an adapter's requests within the SLO with which the adapter counts as served


class Status(IntEnum):
    in_flight = 0
    answered = 1
    refused = 2
    failed = 3


@dataclass
class Outcome:
    """One entry per request: when it came and ended, which adapter it asked, where that was, and who served it."""

    arrived_at: NDArray[np.float64]
    adapters: NDArray[np.int64]
    ended_at: NDArray[np.float64]
    status: NDArray[np.int8]
    tiers: NDArray[np.int8]
    servers: NDArray[np.int32]
    retried: int = 0
    in_flight_seconds: float = 0.0  # of all requests together
    ended: float = 0.0
    busy_s: float = 0.0
    batches: int = 0

    @classmethod
    def empty(cls, arrived_at: NDArray[np.float64], adapters: NDArray[np.int64]) -> Outcome:
        count = len(arrived_at)
        numbers = np.zeros(count, np.int8), np.zeros(count, np.int8), np.full(count, -1, np.int32)
        return cls(arrived_at, adapters, np.full(count, np.nan), *numbers)

    def finish(self, in_flight_seconds: float, ended: float, servers: Sequence[ServerModel]) -> None:
        self.in_flight_seconds, self.ended = in_flight_seconds, ended
        self.busy_s = sum(server.busy_s for server in servers)
        self.batches = sum(server.batches for server in servers)

    def count(self, status: Status) -> int:
        return int((self.status == status).sum())

    @property
    def latencies(self) -> NDArray[np.float64]:
        """Seconds of the answered requests."""
        return np.asarray((self.ended_at - self.arrived_at)[self.status == Status.answered])

    @property
    def per_s(self) -> float:
        """Answers per second, from the first arrival to the last answer."""
        return self.count(Status.answered) / (self.ended - float(self.arrived_at[0]))

    def counted(self) -> Outcome:
        """Without the warm-up."""
        first = int(WARM_UP * len(self.arrived_at))
        columns = self.arrived_at, self.adapters, self.ended_at, self.status, self.tiers, self.servers
        later = Outcome(*(column[first:] for column in columns))  # type: ignore[arg-type]  # each keeps its type
        later.retried, later.busy_s, later.batches, later.ended = self.retried, self.busy_s, self.batches, self.ended
        return later

    def percentile(self, share: float) -> float:
        """Of the latencies, in seconds."""
        return float(np.quantile(self.latencies, share))

    def hit_rates(self) -> dict[str, float]:
        """The share of the requests whose adapter was in each tier."""
        seen = self.tiers[self.servers >= 0]
        return {str(tier): float((seen == number).mean()) for number, tier in enumerate(Tier)}

    def attainment(self, slo_s: float) -> float:
        """The share of the requests that were answered within the SLO."""
        return float(self._met(slo_s).mean())

    def attainment_of_adapters(self, slo_s: float) -> float:
        """The share of the adapters of whose requests enough were answered within the SLO."""
        _, index = np.unique(self.adapters, return_inverse=True)
        return float((np.bincount(index, self._met(slo_s)) >= MET * np.bincount(index)).mean())

    def _met(self, slo_s: float) -> NDArray[np.bool_]:
        late = np.where(self.status == Status.answered, self.ended_at - self.arrived_at, np.inf)
        return np.asarray(late <= slo_s)
