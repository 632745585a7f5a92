"""Where the time of a batch goes: swap, trunk, branch and head, measured only for batches with a traced image."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

StageName = Literal["queue", "swap", "trunk", "branch", "head"]


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A part of what was done for a batch. `started` and `ended` are readings of time.perf_counter.

    `items` are the items of the batch that it was for. `mode` says how a branch was computed, as in
    `BatchScores.modes`; with "whole", the trunk is part of it.
    """

    name: StageName
    started: float
    ended: float
    items: frozenset[int]
    mode: str = ""


class Watch(Protocol):
    """`with watch.stage("branch", share.items, "hot"): ...`"""

    stages: Sequence[Stage]

    def stage(self, name: StageName, items: Iterable[int], mode: str = "") -> AbstractContextManager[object]: ...


class Unwatched:
    """Measures nothing, and reads no `items`."""

    stages: Sequence[Stage] = ()
    _nothing = nullcontext()

    def stage(self, name: StageName, items: Iterable[int], mode: str = "") -> AbstractContextManager[object]:
        return self._nothing


UNWATCHED = Unwatched()


class Stopwatch:
    """Measures the stages of one batch. On a GPU it waits at the end of each, because calls only start work there."""

    def __init__(self, device: torch.device) -> None:
        self.stages: Sequence[Stage] = []
        self._device = device

    @contextmanager
    def stage(self, name: StageName, items: Iterable[int], mode: str = "") -> Iterator[None]:
        started = time.perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        self.stages = [*self.stages, Stage(name, started, time.perf_counter(), frozenset(items), mode)]


def watch_of(items: Iterable[object], device: torch.device) -> Watch:
    """A stopwatch for a batch with an item that is `traced`."""
    return Stopwatch(device) if any(getattr(item, "traced", False) for item in items) else UNWATCHED


def of_each_item(stages: Sequence[Stage], accepted: Sequence[float], started: float) -> Sequence[Sequence[Stage]]:
    """The stages of each item of a batch that was started then, behind the one in the queue; none if none was measured.

    `accepted` is when each item came.
    """
    if not stages:
        return [()] * len(accepted)
    waits = {moment: Stage("queue", moment, started, frozenset()) for moment in accepted}  # those of a request are one
    return [
        (waits[moment], *(stage for stage in stages if number in stage.items)) for number, moment in enumerate(accepted)
    ]
