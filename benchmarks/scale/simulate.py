"""The simulation: arrivals, routing, batches, failures and retries, one event after the other.

    outcome = Simulation(costs, places, router, workload).run()

The same workload and seeds give the same outcome. Nothing is drawn here: arrivals are drawn by the workload, and the
routers have draws of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from heapq import heappop, heappush
from itertools import count

import numpy as np
from benchmarks.scale.costs import BatchCosts
from benchmarks.scale.outcome import Outcome, Status
from benchmarks.scale.routers.router import Loads, Router
from benchmarks.scale.server_model import ServerModel
from benchmarks.scale.tiers import Places, Tier
from benchmarks.scale.workload import Failure, Workload

DETECT_S = 0.05  # until the door notices that a server is gone

Event = tuple[float, int, Callable[..., None], tuple[object, ...]]


class Simulation:
    """One run. `places` are those of each server. `repeatable` costs give the same seconds for the same batch."""

    def __init__(
        self,
        costs: BatchCosts,
        places: Sequence[Places],
        router: Router,
        workload: Workload,
        *,
        max_batch: int = 16,
        repeatable: bool = True,
        arrivals: tuple[Sequence[float], Sequence[int]] | None = None,
    ) -> None:
        self._costs = costs
        self._router = router
        self._workload = workload
        batch_s = lru_cache(2**16)(costs.batch_s) if repeatable else costs.batch_s
        self._servers = [
            ServerModel(number, costs, batch_s, place, router.splits_batches) for number, place in enumerate(places)
        ]
        for server in self._servers:
            server.lanes.max_batch = max_batch
        self._loads = Loads(len(places))
        self._events: list[Event] = []
        self._order = count()
        times, adapters = workload.arrivals() if arrivals is None else arrivals
        self._arrivals, self._adapters = times, adapters
        self.outcome = Outcome.empty(np.array(times), np.array(adapters))
        self._in_flight = 0
        self._area = 0.0
        self._last = 0.0

    def run(self) -> Outcome:
        for failure in self._workload.failures:
            self._at(failure.dies_at, self._die, failure)
        arrivals, events, total = self._arrivals, self._events, len(self._arrivals)
        request = 0
        while request < total or events:
            if request < total and (not events or arrivals[request] <= events[0][0]):
                now = arrivals[request]
                self._count(now, 1)
                self._route(request, now)
                request += 1
            else:
                now, _, call, given = heappop(events)
                call(now, *given)
        self.outcome.finish(self._area, self._last, self._servers)
        return self.outcome

    def _at(self, when: float, call: Callable[..., None], *given: object) -> None:
        heappush(self._events, (when, next(self._order), call, given))

    def _count(self, now: float, change: int) -> None:
        """Add the requests in flight, times how long they were, to the area under their curve."""
        self._area += self._in_flight * (now - self._last)
        self._last = now
        self._in_flight += change

    def _route_again(self, now: float, request: int) -> None:
        self._route(request, now)

    def _route(self, request: int, now: float) -> None:
        adapter = self._adapters[request]
        number = self._router.choose(request, adapter, self._loads, now)
        if number is None:
            self._at(now + self._router.wait_s(request), self._route_again, request)
            return
        server = self._servers[number]
        if not server.has_room:
            self._end(request, now, Status.refused)
            return
        tier, ready_at = server.accept(request, adapter, now)
        self.outcome.tiers[request] = ORDER[tier]
        self.outcome.servers[request] = number
        self._loads.add(number, 1)
        if tier in (Tier.file, Tier.remote):
            self._router.loaded(number, adapter, ready_at)
        if not server.busy and ready_at < server.wake_at:
            server.wake_at = ready_at
            self._at(ready_at, self._wake, server, server.epoch)

    def _wake(self, now: float, server: ServerModel, epoch: int) -> None:
        if server.epoch == epoch and not server.busy:
            server.wake_at = float("inf")
            self._start(server, now)

    def _start(self, server: ServerModel, now: float) -> None:
        seconds = server.start(now)
        if seconds is not None:
            self._at(now + seconds, self._done, server, server.epoch)
        elif server.next_at is not None and server.next_at < server.wake_at:
            server.wake_at = server.next_at
            self._at(server.next_at, self._wake, server, server.epoch)

    def _done(self, now: float, server: ServerModel, epoch: int) -> None:
        if server.epoch != epoch:
            return  # it died in the meantime
        answered = server.finish(now)
        self._loads.add(server.number, -len(answered))
        for request in answered:
            self._end(request, now + self._costs.transfer_s, Status.answered, now)
        self._start(server, now)

    def _end(self, request: int, ended_at: float, status: Status, now: float | None = None) -> None:
        self._count(ended_at if now is None else now, -1)
        self.outcome.ended_at[request] = ended_at
        self.outcome.status[request] = status

    def _die(self, now: float, failure: Failure) -> None:
        server = self._servers[failure.server]
        lost = server.die()
        self._loads.kill(failure.server)
        self._at(failure.back_at, self._back, failure.server)
        for request in lost:
            if self._router.retries:
                self.outcome.retried += 1
                self._at(now + DETECT_S, self._route_again, request)
            else:
                self._end(request, now, Status.failed)

    def _back(self, now: float, number: int) -> None:
        server = self._servers[number]
        server.alive = True
        self._loads.revive(number)


ORDER = {tier: number for number, tier in enumerate(Tier)}
