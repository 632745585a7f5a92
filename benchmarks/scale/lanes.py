"""The images that wait in one server, and the next batch of them: the rule of the service's scheduler.

`tests/scale/test_lanes.py` compares its batches with those of `lensmount_service.engine.scheduler`, which has futures,
locks and tensors and would take ten times as long.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from math import inf

from lensmount_service.engine.quiet import MANY, QuietLanes
from lensmount_service.engine.scheduler import TOGETHER

MAX_TURN_S = 0.5
LEARNING = 0.1


@dataclass(slots=True, eq=False)
class Lane:
    """The waiting images of one adapter in order of arrival: (accepted at, request)."""

    adapter: int
    items: deque[tuple[float, int]] = field(default_factory=deque)
    taken: int = 0
    seconds: float = 0.0
    gave_way_at: float = -inf

    @property
    def rank(self) -> tuple[float, float]:
        return max(self.items[0][0], self.gave_way_at), self.gave_way_at

    def age(self, position: int, turn: int) -> float:
        """When the image at this position, or the group of images that it belongs to, began to wait."""
        if self.taken + position >= turn:
            return inf
        return max(self.items[position - position % TOGETHER][0], self.gave_way_at)


class Lanes:
    """`lanes.add(adapter, request, now)`; `lanes.take(now)`, and `lanes.done(now)` once that batch is computed."""

    def __init__(self, max_batch: int = 16) -> None:
        self.waiting = 0
        self.max_batch = max_batch
        self._lanes: dict[int, Lane] = {}
        self._quiet = QuietLanes()
        self._batch: list[tuple[Lane, int]] = []  # the lanes of the last batch, and how many images of each
        self._taken_at = 0.0
        self._turn = max_batch
        self._seconds_per_image = 0.05

    def add(self, adapter: int, request: int, now: float) -> None:
        lane = self._lanes.get(adapter)
        if lane is None:
            lane = self._lanes[adapter] = Lane(adapter)
        lane.items.append((now, request))
        self.waiting += 1
        self._quiet.saw(adapter, len(lane.items), now)

    def take(self, now: float) -> list[tuple[int, list[int]]]:
        """The next batch as adapters and their requests."""
        longest = max((len(lane.items) for lane in self._lanes.values()), default=0) if self.waiting > MANY else 0
        most = min(self.max_batch, self._quiet.most_images(longest, self._seconds_per_image, now))
        self._taken_at, self._turn = now, most
        counts = self._all() if self.waiting <= most else self._oldest(most)
        self._batch = counts
        batch: list[tuple[int, list[int]]] = []
        for lane, count in counts:
            lane.taken += count
            batch.append((lane.adapter, [lane.items.popleft()[1] for _ in range(count)]))
            self.waiting -= count
            if not lane.items:
                del self._lanes[lane.adapter]
        return batch

    def done(self, now: float) -> None:
        """Charge the time of the last batch to its adapters. Those whose turn is over go behind the others."""
        images = sum(count for _, count in self._batch)
        if not images:
            return
        seconds = (now - self._taken_at) / images
        self._seconds_per_image += LEARNING * (seconds - self._seconds_per_image)
        for lane, count in self._batch:
            lane.seconds += count * seconds
            if lane.taken >= self._turn or lane.seconds >= MAX_TURN_S:
                lane.taken, lane.seconds, lane.gave_way_at = 0, 0.0, now
        self._batch = []

    def requests(self) -> list[int]:
        """All that wait."""
        return [request for lane in self._lanes.values() for _, request in lane.items]

    def _all(self) -> list[tuple[Lane, int]]:
        return [(lane, len(lane.items)) for lane in self._lanes.values()]

    def _oldest(self, most: int) -> list[tuple[Lane, int]]:
        """Up to `most` images from the heads of the lanes, each group of an adapter's images as old as its first."""
        ranked = sorted(self._lanes.values(), key=lambda lane: lane.rank)[: self.max_batch]
        heads = [(lane.age(0, most), order) for order, lane in enumerate(ranked)]
        heapify(heads)
        counts: Counter[int] = Counter()
        for _ in range(most):
            if not heads:
                break
            order = heads[0][1]
            counts[order] += 1
            if counts[order] < len(ranked[order].items):
                heapreplace(heads, (ranked[order].age(counts[order], most), order))
            else:
                heappop(heads)
        return [(ranked[order], count) for order, count in counts.items()]
