"""Images of low priority: behind all others, with a room of their own."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from lensmount_adapters import Adapter
from lensmount_service.engine.scheduler import QueuedImage, Scheduler
from lensmount_service.errors import QueueFull


class Clock:
    """A clock that only the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def item(adapter: str, **more: Any) -> QueuedImage[str]:
    return QueuedImage(cast(Adapter, SimpleNamespace(digest=adapter)), torch.zeros(3, 4, 4), **more)


def submit(scheduler: Scheduler[str], clock: Clock, *items: QueuedImage[str]) -> list[QueuedImage[str]]:
    """Submit one image after the other, a millisecond apart."""
    for image in items:
        clock.now += 0.001
        scheduler.submit([image])
    return list(items)


def names(batch: Sequence[QueuedImage[str]]) -> list[str]:
    return [image.adapter.digest for image in batch]


def batches(scheduler: Scheduler[str], clock: Clock) -> list[list[QueuedImage[str]]]:
    """The remaining batches, each computed in a second."""
    taken = []
    while batch := scheduler.next_batch(block=False):
        taken.append(batch)
        clock.now += 1.0
    return taken


def test_images_of_low_priority_wait_until_no_others_do(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(2, mix=True, clock=clock)
    submit(scheduler, clock, *(item("a", low=True) for _ in range(3)), item("a"), item("b"), item("c"))

    assert [names(batch) for batch in batches(scheduler, clock)] == [["a", "b"], ["c"], ["a", "a"], ["a"]]


def test_a_batch_that_fills_up_is_not_overtaken_by_low_priority(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(2, batch_window_ms=10, clock=clock)
    submit(scheduler, clock, item("low", low=True), item("a"))
    assert scheduler.next_batch(block=False) == []
    clock.now += 0.02
    assert [names(batch) for batch in batches(scheduler, clock)] == [["a"], ["low"]]


def test_low_priority_takes_no_room_from_others_and_has_a_bound_of_its_own(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(4, max_queue=4, clock=clock)
    low = [item(f"low{number}", low=True, caller=f"caller{number}") for number in range(20)]
    with pytest.raises(QueueFull):
        submit(scheduler, clock, *low)
    assert scheduler.waiting == 0
    submit(scheduler, clock, *map(item, "abcd"))
    assert scheduler.waiting == 4


def test_a_cancelled_image_of_low_priority_frees_its_own_room(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(1, max_queue=1, clock=clock)
    (ordinary,) = submit(scheduler, clock, item("a"))
    for _ in range(20):
        (image,) = submit(scheduler, clock, item("a", low=True))
        image.future.cancel()
    assert scheduler.waiting == 1
    assert [image for batch in batches(scheduler, clock) for image in batch] == [ordinary]


def test_a_flood_of_low_priority_has_short_batches_while_somebody_else_asks(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(16, mix=True, clock=clock)
    sizes = []
    for _ in range(6):
        submit(scheduler, clock, *(item("low", low=True) for _ in range(16)))
        submit(scheduler, clock, item("quiet"))
        while batch := scheduler.next_batch(block=False):
            sizes.append(len(batch))
            clock.now += 0.02 * len(batch)
            if batch[0].low:
                break
    assert sizes[1] == 16
    assert sizes[-1] == 1
