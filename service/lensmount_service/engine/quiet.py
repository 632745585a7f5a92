"""Short batches while one client floods the queue and another sends one image at a time.

A batch that runs is not interrupted, so an image waits for the rest of it. While one queue holds many images and
another one has had only a few at a time, a batch ends after about `SHORT_S`. Without this, 64 connections of
one adapter made the p99 of a quiet client of another 6.4 times as long (benchmarks/attacks.py).
"""

from __future__ import annotations

from collections.abc import Hashable

FEW, MANY = 2, 8  # images that wait in one queue: a quiet one has at most FEW, a flooded one has more than MANY
ARRIVALS = 3  # one after the other with only FEW waiting: then a queue is quiet
REMEMBERED_S = 1.0  # how long a queue counts after its last image
SHORT_S = 0.01  # of computing
UNLIMITED = 1_000_000


class QuietLanes:
    """`quiet.saw(lane, waiting, now)` at each arrival, then `quiet.most_images(...)`; the scheduler locks it."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[float, int]] = {}  # the last arrival and how many came, in order of time

    def saw(self, lane: Hashable, waiting: int, now: float) -> None:
        """Images arrived in a lane, where `waiting` wait now."""
        _, arrivals = self._seen.pop(lane, (now, 0))
        if waiting <= FEW:
            self._seen[lane] = now, arrivals + 1

    def most_images(self, longest: int, seconds_per_image: float, now: float) -> int:
        """How many images the next batch may have, if `longest` images wait in the longest queue."""
        while self._seen and now - (oldest := next(iter(self._seen.items())))[1][0] > REMEMBERED_S:
            del self._seen[oldest[0]]
        if longest <= MANY or all(arrivals < ARRIVALS for _, arrivals in self._seen.values()):
            return UNLIMITED
        return max(1, int(SHORT_S / max(seconds_per_image, 1e-6)))
