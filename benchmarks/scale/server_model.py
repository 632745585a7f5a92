"""One server of the simulation: Python's queue, the lanes of its engine, and where its adapters are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import exp

from benchmarks.scale.costs import BatchCosts
from benchmarks.scale.lanes import Lanes
from benchmarks.scale.tiers import Places, Tier

from lensmount_adapters.runners.costs import Group

REMEMBERED_S = 0.5
MAX_QUEUE = 256  # images that wait, the service's default


@dataclass(slots=True)
class ServerModel:
    """`server.accept(request, adapter, now)`, then `server.start(now)` whenever the engine is free.

    A request first needs Python, one after the other. If its adapter is not in memory, Python also admits it, and an
    adapter that is not on the disk comes from the object store before. Then the image waits for the engine.
    """

    number: int
    costs: BatchCosts
    batch_s: Callable[[tuple[Group, ...], bool], float]
    places: Places
    splits_batches: bool = False
    lanes: Lanes = field(default_factory=Lanes)
    epoch: int = 0  # how often it died
    alive: bool = True
    busy: bool = False
    busy_s: float = 0.0
    batches: int = 0
    wake_at: float = float("inf")
    batch: list[tuple[int, list[int]]] = field(default_factory=list)
    _coming: list[tuple[float, int, int]] = field(default_factory=list)  # when Python is done: request, adapter
    _python_free_at: float = 0.0
    _load_free_at: float = 0.0
    _python_busy: float = 0.0  # share of the time in which Python works, over the last REMEMBERED_S or so
    _python_seen: float = 0.0

    @property
    def has_room(self) -> bool:
        return self.lanes.waiting + len(self._coming) < MAX_QUEUE

    @property
    def next_at(self) -> float | None:
        """When the next image is ready for the engine."""
        return self._coming[0][0] if self._coming else None

    def accept(self, request: int, adapter: int, now: float) -> tuple[Tier, float]:
        """Returns where the adapter was, and when its image is ready for the engine."""
        tier, loaded_at = self.places.find(adapter, now)
        begin = max(now, self._python_free_at)
        ready_at = self._python_free_at = begin + self.costs.request_s
        if loaded_at is None:  # the first request for it loads it
            fetch_s, admit_s = self.places.load_s(tier)
            self._python_free_at += admit_s
            ready_at = self._python_free_at + fetch_s
            if self.splits_batches:  # Ray loads one model at a time
                ready_at = self._load_free_at = (
                    max(self._load_free_at, begin) + self.costs.request_s + admit_s + fetch_s
                )
            self.places.loading(adapter, ready_at)
        self._note_work(now, self._python_free_at - begin)
        ready_at = max(ready_at, loaded_at or 0.0)
        heappush(self._coming, (ready_at, request, adapter))
        return tier, ready_at

    def start(self, now: float) -> float | None:
        """Start a batch of what is ready. Returns its seconds, or None if nothing is."""
        while self._coming and self._coming[0][0] <= now:
            ready_at, request, adapter = heappop(self._coming)
            self.lanes.add(adapter, request, ready_at)
        if not self.lanes.waiting:
            return None
        self.batch = self.lanes.take(now)
        self.busy = True
        self._note_work(now, 0.0)
        seconds = self._seconds(self.batch) * (1 + self.costs.contention * min(1.0, self._python_busy))
        self.busy_s += seconds
        self.batches += 1
        return seconds

    def finish(self, now: float) -> Sequence[int]:
        """The requests of the batch, which are answered."""
        self.busy = False
        self.lanes.done(now)
        self.places.used([(adapter, len(requests)) for adapter, requests in self.batch], now)
        answered = [request for _, requests in self.batch for request in requests]
        self.batch = []
        return answered

    def die(self) -> list[int]:
        """Forget everything. Returns the requests that it had accepted and not answered."""
        lost = [request for _, requests in self.batch for request in requests]
        lost += self.lanes.requests() + [request for _, request, _ in self._coming]
        self.lanes, self.batch, self._coming = Lanes(), [], []
        self.epoch += 1
        self.alive = self.busy = False
        self.wake_at = float("inf")
        self.places.lose()
        return lost

    def _note_work(self, now: float, seconds: float) -> None:
        """Python gets this much work now."""
        self._python_busy *= exp((self._python_seen - now) / REMEMBERED_S)
        self._python_busy += seconds / REMEMBERED_S
        self._python_seen = now

    def _seconds(self, batch: list[tuple[int, list[int]]]) -> float:
        groups = [Group(len(requests), self.places.is_hot(adapter), True) for adapter, requests in batch]
        if len(batch) == 1:
            return self.batch_s((groups[0],), self.places.has_whole(batch[0][0], len(batch[0][1])))
        if self.splits_batches:
            return sum(self.batch_s((group,), False) for group in groups)
        groups.sort(key=lambda group: (group.hot, group.images))  # fewer different ones to compute
        return self.batch_s(tuple(groups), False)
