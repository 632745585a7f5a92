"""Ray Serve's stock router for multiplexed models, as in its release 2.60 (MultiplexMixin and PowerOfTwoChoices).

Replicas report every `REPORT_S` which models they have. A request goes to one of two of those that have its model. If
none has it, the first such request goes to a replica with the fewest models; further ones wait until one reports the
model, at most between one and two times `MATCH_S`. A replica with `most_ongoing` requests takes no more, and the
request then tries a replica with the fewest models. Replicas fill a batch and then split it by model, and a request
whose replica dies fails.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from random import Random

from benchmarks.scale.routers.router import Loads

REPORT_S = 0.1
MATCH_S = 1.0
FIRST_BACKOFF_S, BACKOFF, LONGEST_BACKOFF_S = 0.025, 2.0, 0.5


@dataclass(slots=True)
class Pending:
    """One request that is not routed yet."""

    since: float
    patience_s: float
    attempts: int = 0
    tried_matching: bool = False
    tried_fewest: bool = False


class Multiplex:
    """`home` says which server has an adapter at the start. All servers have as many models as fit: none has fewest."""

    name = "Ray's multiplex"
    retries = False
    splits_batches = True

    def __init__(self, home: Sequence[int], most_ongoing: int = 32, seed: int = 0) -> None:
        self._home = home
        self._most = most_ongoing
        self._draw = Random(seed)
        self._moved: dict[int, dict[int, float]] = {}  # by adapter: when each server that has it has reported it
        self._lost: set[int] = set()  # servers without what they had at the start
        self._fallen_back: set[int] = set()
        self._pending: dict[int, Pending] = {}
        self._dropped: defaultdict[int, set[int]] = defaultdict(set)

    def choose(self, request: int, adapter: int, loads: Loads, now: float) -> int | None:
        pending = self._pending.get(request)
        if pending is None:
            pending = self._pending[request] = Pending(now, self._draw.uniform(MATCH_S, 2 * MATCH_S))
        server = self._two_choices(self._candidates(adapter, pending, loads, now), loads)
        if server is None:
            pending.attempts += 1
        else:
            del self._pending[request]
        return server

    def wait_s(self, request: int) -> float:
        attempt = self._pending[request].attempts - 1
        return float(min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * BACKOFF**attempt))

    def loaded(self, server: int, adapter: int, at: float) -> None:
        self._places(adapter)[server] = (floor(at / REPORT_S) + 1) * REPORT_S

    def dropped(self, server: int, adapter: int | None) -> None:
        if adapter is None:
            self._lost.add(server)
            for places in self._moved.values():
                places.pop(server, None)
        else:
            self._places(adapter).pop(server, None)

    def _places(self, adapter: int) -> dict[int, float]:
        if adapter not in self._moved:
            home = self._home[adapter]
            self._moved[adapter] = {} if home in self._lost else {home: 0.0}
        return self._moved[adapter]

    def _candidates(self, adapter: int, pending: Pending, loads: Loads, now: float) -> Sequence[int] | None:
        """Servers to choose from; None: any of them has the fewest models."""
        if now - pending.since >= pending.patience_s:
            pending.tried_fewest = True
            return None
        matching = [server for server, seen_at in self._places(adapter).items() if seen_at <= now]
        if (not matching and adapter not in self._fallen_back) or pending.tried_matching:
            self._fallen_back.add(adapter)
            pending.tried_matching = True
            return None
        if matching:
            self._fallen_back.discard(adapter)
        pending.tried_matching = True
        return matching

    def _two_choices(self, candidates: Sequence[int] | None, loads: Loads) -> int | None:
        if candidates is None:
            drawn = [self._draw.randrange(loads.servers) for _ in range(2)]
        else:
            drawn = self._draw.sample(candidates, min(2, len(candidates)))
        free = [server for server in drawn if loads.of[server] < self._most]
        return min(free, key=lambda server: int(loads.of[server]), default=None)
