"""The lanes of the simulation take the batches that the service's scheduler takes."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks.scale.lanes import Lanes

from lensmount_service.engine.scheduler import QueuedImage, Scheduler

IMAGE = torch.zeros(1)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def queued(adapter: int, request: int) -> QueuedImage[int]:
    given: Any = SimpleNamespace(digest=str(adapter), request=request)
    return QueuedImage(given, IMAGE)


@pytest.mark.parametrize("crowd", [1, 3, 12])
@pytest.mark.parametrize("seed", range(4))
def test_its_batches_are_those_of_the_scheduler_whatever_arrives(seed: int, crowd: int) -> None:
    draw, clock = Random(seed), Clock()
    scheduler: Scheduler[int] = Scheduler(16, 4096, mix=True, clock=clock)
    lanes = Lanes(16)
    request = 0
    for _ in range(150):
        for _ in range(draw.choice((0, 1, 2, 5, 30 if crowd > 1 else 3))):
            adapter = 0 if draw.random() < 0.5 else draw.randrange(1, 2 + crowd)
            scheduler.submit([queued(adapter, request)])
            lanes.add(adapter, request, clock.now)
            request += 1
            clock.now += draw.choice((0.0, 0.001))
        lanes.done(clock.now)
        theirs = scheduler.next_batch(block=False)
        ours = lanes.take(clock.now) if lanes.waiting else []
        assert theirs is not None
        found = sorted((str(adapter), each) for adapter, requests in ours for each in requests)
        assert found == sorted((item.adapter.digest, vars(item.adapter)["request"]) for item in theirs)
        clock.now += 0.002 + 0.004 * len(theirs)
    assert lanes.waiting == scheduler.waiting
