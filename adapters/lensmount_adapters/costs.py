"""What each way of computing a batch costs on this machine, measured; and the cheapest way for a given batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds for `n` images: `fixed + per_image * n`."""

    fixed: float
    per_image: float

    def __call__(self, images: int) -> float:
        return self.fixed + self.per_image * images

    @classmethod
    def through(cls, one: float, many: float, n: int) -> Line:
        """The line through the seconds for 1 image and for `n`; neither part below zero."""
        per_image = max(0.0, (many - one) / (n - 1)) if n > 1 else 0.0
        return cls(max(0.0, one - per_image), per_image)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of one branch: merged weights made constant (`hot`), handed in at run time (`merged`), or `mixed`.

    `merge`: computing one adapter's merged weights. `pack`: laying out one adapter's factors for a mixed batch.
    """

    hot: Line
    merged: Line
    merge: float
    mixed: Line | None
    pack: float
    slots: int


@dataclass(frozen=True, slots=True)
class Group:
    """The images of one adapter in a batch: how many, whether its weights are hot, whether it can be mixed."""

    images: int
    hot: bool
    mixable: bool


def mixed_groups(costs: Costs, groups: Sequence[Group]) -> list[list[int]]:
    """The groups that are cheaper together, as runs of the mixed program of at most `slots` adapters each.

    Every other group is computed alone. A group saves what it costs alone less its images in the mixed program; a run
    is worth its fixed part where its groups save more together.
    """
    if costs.mixed is None:
        return []
    savings = {
        index: _alone(costs, group) - costs.mixed.per_image * group.images - costs.pack
        for index, group in enumerate(groups)
        if group.mixable
    }
    best = sorted((index for index in savings if savings[index] > 0), key=lambda index: -savings[index])
    runs = [best[start : start + costs.slots] for start in range(0, len(best), costs.slots)]
    return [run for run in runs if sum(savings[index] for index in run) > costs.mixed.fixed]


def seconds_of(work: Callable[[], object], rounds: int = 2) -> float:
    """The faster of two rounds, after one that pays for allocations and kernels."""
    work()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def _alone(costs: Costs, group: Group) -> float:
    return costs.hot(group.images) if group.hot else costs.merge + costs.merged(group.images)
