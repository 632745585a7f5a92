from __future__ import annotations

import gc
import random
import weakref
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import wait
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from lensmount_adapters import Adapter
from lensmount_service.engine.scheduler import QueuedImage, Scheduler
from lensmount_service.errors import BodyTooLarge, DeadlineExceeded, QueueFull


class Clock:
    """A clock that only the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def item(adapter: str, size: int = 4, **more: Any) -> QueuedImage[str]:
    return QueuedImage(cast(Adapter, SimpleNamespace(digest=adapter)), torch.zeros(3, size, size), **more)


def submit(scheduler: Scheduler[str], clock: Clock, *items: QueuedImage[str]) -> list[QueuedImage[str]]:
    """Submit one image after the other, a millisecond apart."""
    for image in items:
        clock.now += 0.001
        scheduler.submit([image])
    return list(items)


def names(batch: Sequence[QueuedImage[str]] | None) -> str:
    assert batch is not None
    return "".join(image.adapter.digest for image in batch)


def batches(scheduler: Scheduler[str], clock: Clock, seconds: float = 1.0) -> list[list[QueuedImage[str]]]:
    """The remaining batches, each computed in `seconds`."""
    taken = []
    while batch := scheduler.next_batch(block=False):
        taken.append(batch)
        clock.now += seconds
    return taken


def test_a_batch_has_one_adapter_and_the_oldest_head_goes_first(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(3, clock=clock)
    submit(scheduler, clock, *map(item, "abbaab"))

    assert [names(batch) for batch in batches(scheduler, clock, 0.01)] == ["aaa", "bbb"]
    assert scheduler.waiting == 0


def test_images_of_one_adapter_keep_their_order(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(2, clock=clock)
    sent = submit(scheduler, clock, *map(item, "aaaaa"))

    assert [image for batch in batches(scheduler, clock) for image in batch] == sent


def test_a_mixed_batch_is_filled_from_the_oldest_heads(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(4, mix=True, clock=clock)
    submit(scheduler, clock, *map(item, "abcabbba"))

    assert [names(batch) for batch in batches(scheduler, clock, 0.01)] == ["aaab", "cbbb"]


def test_four_images_of_an_adapter_go_together_and_the_fifth_goes_by_its_own_age(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(8, mix=True, clock=clock)
    submit(scheduler, clock, *map(item, "abcdabcdabcdabcdabcd"))

    assert [names(batch) for batch in batches(scheduler, clock, 0.01)] == ["aaaabbbb", "ccccdddd", "abcd"]


def test_an_adapter_whose_turn_ends_within_a_mixed_batch_only_fills_what_the_others_leave(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(4, mix=True, clock=clock)
    submit(scheduler, clock, *map(item, "hhhahhhhb"))

    assert [names(batch) for batch in batches(scheduler, clock, 0.01)] == ["hhhh", "abhh", "h"]


def test_a_mixed_batch_has_one_shape_and_one_group_and_nothing_overtakes_in_an_adapters_queue(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(8, mix=True, clock=clock)
    submit(
        scheduler, clock, item("a"), item("b", 6), item("c", group="x"), item("d"), item("a", 6), item("a"), item("e")
    )

    taken = batches(scheduler, clock, 0.01)
    assert [names(batch) for batch in taken] == ["ade", "ba", "c", "a"]
    for batch in taken:
        assert len({(image.image.shape, image.group) for image in batch}) == 1


@pytest.mark.parametrize("mix", [False, True])
def test_a_hot_adapter_gives_way_after_max_batch_images_while_others_wait(clock: Clock, mix: bool) -> None:
    scheduler: Scheduler[str] = Scheduler(16, 1000, mix=mix, clock=clock)
    submit(scheduler, clock, *[item("h") for _ in range(400)])
    first = scheduler.next_batch()
    quiet = submit(scheduler, clock, *map(item, "abcdefghijklmnop".replace("h", "")))
    clock.now += 1

    assert names(first) == "h" * 16
    taken = batches(scheduler, clock)
    waited = {image.adapter.digest: number for number, batch in reversed([*enumerate(taken, 1)]) for image in batch}
    # The first batch was the hot adapter's turn. The quiet adapters go next, one by one or, when mixed, together.
    assert [waited[image.adapter.digest] for image in quiet] == ([1] * 15 if mix else list(range(1, 16)))
    assert sum(map(len, taken)) == 384 + 15


@pytest.mark.parametrize("mix", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_head_waits_for_one_batch_of_each_adapter_that_waited_before_it_however_many_images_they_have(
    clock: Clock, mix: bool, seed: Any
) -> None:
    """One hot tenant keeps 200 images queued; 15 quiet tenants send an image occasionally."""
    draw = random.Random(seed)
    scheduler: Scheduler[str] = Scheduler(16, 1000, mix=mix, clock=clock)
    batches_done = 0
    waiting: Counter[str] = Counter()
    allowed: dict[QueuedImage[str], int] = {}
    late: list[QueuedImage[str]] = []
    for _ in range(3000):
        while waiting["hot"] < 200:
            scheduler.submit([item("hot")])
            waiting["hot"] += 1
        clock.now += draw.random() / 10
        for _ in range(draw.choice((0, 0, 1, 3))):
            tenant = f"quiet {draw.randrange(15)}"
            sent = item(tenant)
            if not waiting[tenant]:
                allowed[sent] = batches_done + 1 + sum(count > 0 for count in waiting.values())
            scheduler.submit([sent])
            waiting[tenant] += 1
        if draw.random() < 0.5:
            batch = scheduler.next_batch()
            assert batch is not None
            batches_done += 1
            clock.now += draw.random()
            for image in batch:
                waiting[image.adapter.digest] -= 1
                late += [image] * (batches_done > allowed.pop(image, batches_done))
    assert batches_done > 1000
    assert late == []
    assert scheduler.waiting == sum(waiting.values())


@pytest.mark.parametrize(("max_turn_s", "turn"), [(1000.0, 4), (2.5, 3)])
def test_a_turn_of_many_small_batches_ends_after_max_batch_images_or_max_turn_s(
    clock: Clock, max_turn_s: float, turn: int
) -> None:
    scheduler: Scheduler[str] = Scheduler(4, max_turn_s=max_turn_s, clock=clock)
    submit(
        scheduler, clock, *[item("h", 4 + number % 2) for number in range(12)]
    )  # consecutive images do not fit into one batch
    submit(scheduler, clock, item("q"))

    order = "".join(names(batch) for batch in batches(scheduler, clock, seconds=1.0))
    assert order == "h" * turn + "q" + "h" * (12 - turn)


def test_a_single_adapter_is_not_held_back(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(4, clock=clock)
    submit(scheduler, clock, *map(item, "a" * 12))

    assert [len(batch) for batch in batches(scheduler, clock, seconds=10)] == [4, 4, 4]


def test_a_full_queue_takes_all_of_a_request_or_none(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(4, 3, clock=clock)
    scheduler.submit([item("a"), item("b")])
    scheduler.check_room(["a"])
    with pytest.raises(QueueFull, match="found 2 images waiting, expected room for at most 3"):
        scheduler.submit([item("a"), item("c")])
    scheduler.submit([item("c")])
    with pytest.raises(QueueFull):
        scheduler.check_room(["a"])

    assert sorted(names(batch) for batch in batches(scheduler, clock)) == ["a", "b", "c"]


def test_a_flood_of_one_adapter_leaves_room_for_others_and_more_than_fits_is_refused_for_good(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(4, 64, clock=clock)
    scheduler.submit([item("h", caller="loud") for _ in range(64)])
    with pytest.raises(QueueFull):
        scheduler.submit([item("h", caller="loud")])
    scheduler.submit([item("q", caller="loud")])
    scheduler.submit([item("h", caller="quiet")])
    with pytest.raises(BodyTooLarge):
        scheduler.submit([item("q") for _ in range(65)])

    assert scheduler.waiting == 66


@pytest.mark.parametrize("mix", [False, True])
def test_callers_of_one_adapter_take_turns_and_share_batches(clock: Clock, mix: bool) -> None:
    scheduler: Scheduler[str] = Scheduler(4, mix=mix, clock=clock)
    submit(scheduler, clock, *[item("h", caller="loud") for _ in range(12)])
    quiet = submit(scheduler, clock, item("h", caller="quiet"), item("h", caller="slow"))

    taken = batches(scheduler, clock, 0.01)
    assert [len(batch) for batch in taken] == [4, 4, 4, 2]
    assert set(quiet) <= set(taken[1])  # after the batch that was older, not after all twelve


def test_retry_after_is_the_time_of_the_queue_at_the_measured_rate(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(4, 10, clock=clock)
    for _ in range(100):  # 4 images in 2 s, and idle time that does not count
        scheduler.submit([item("a") for _ in range(4)])
        scheduler.next_batch()
        clock.now += 2
        assert scheduler.next_batch(block=False) == []
        clock.now += 50
    scheduler.submit([item("a") for _ in range(10)])

    with pytest.raises(QueueFull) as caught:
        scheduler.submit([item("a")])
    assert caught.value.retry_after_s == 5


def test_an_image_past_its_deadline_is_not_computed_and_says_so(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(4, clock=clock)
    late = item("a", deadline=clock.now + 1)
    kept = item("a", deadline=clock.now + 1.5)
    scheduler.submit([late, kept])
    clock.now += 1

    assert scheduler.next_batch() == [kept]
    with pytest.raises(DeadlineExceeded, match=r"after 1\.0 s in the queue") as caught:
        late.future.result(0)
    assert caught.value.code == "deadline_exceeded"
    assert scheduler.waiting == 0


def test_images_past_their_deadline_free_their_room_while_a_batch_is_computed(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(1, 2, clock=clock)
    scheduler.submit([item("a")])
    scheduler.next_batch()
    late = [item("a", deadline=clock.now + 1), item("b", deadline=clock.now + 1)]
    scheduler.submit(late)
    with pytest.raises(QueueFull):
        scheduler.check_room(["a"])
    clock.now += 1
    scheduler.check_room(["a"])
    scheduler.submit([item("c"), item("c")])

    assert all(isinstance(image.future.exception(0), DeadlineExceeded) for image in late)


def test_an_image_that_arrives_after_its_deadline_fails_at_once(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(clock=clock)
    late = item("a", deadline=clock.now - 1)
    scheduler.submit([late, item("b")])

    assert isinstance(late.future.exception(0), DeadlineExceeded)
    assert scheduler.waiting == 1


def test_a_cancelled_image_leaves_the_queue_and_frees_its_room_at_once(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(4, 3, clock=clock)
    first, second, third = submit(scheduler, clock, *map(item, "aba"))
    assert first.future.cancel()
    assert second.future.cancel()
    assert scheduler.waiting == 1
    scheduler.submit([item("c"), item("c")])

    assert [names(batch) for batch in batches(scheduler, clock)] == ["a", "cc"]
    assert not third.future.cancel()  # it runs
    assert wait([first.future, second.future, third.future], 0).done == {first.future, second.future}


def test_an_image_that_was_cancelled_before_it_was_sent_takes_no_room(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(clock=clock)
    gone = item("a")
    gone.future.cancel()
    scheduler.submit([gone])

    assert scheduler.waiting == 0
    assert scheduler.next_batch(block=False) == []


def test_a_batch_waits_for_its_window_or_until_it_is_full(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(3, batch_window_ms=50, clock=clock)
    submit(scheduler, clock, *map(item, "aab"))
    assert scheduler.next_batch(block=False) == []
    submit(scheduler, clock, *map(item, "bb"))
    assert names(scheduler.next_batch(block=False)) == "bbb"  # full, although younger
    clock.now += 0.045
    assert scheduler.next_batch(block=False) == []
    clock.now += 0.005
    assert names(scheduler.next_batch(block=False)) == "aa"
    scheduler.submit([item("a")])
    assert scheduler.next_batch(block=False) == []
    scheduler.close()
    assert names(scheduler.next_batch()) == "a"


def test_an_interruption_goes_before_the_images(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(clock=clock)
    scheduler.submit([item("a")])
    scheduler.interrupt()
    scheduler.close()

    assert [scheduler.next_batch(), names(scheduler.next_batch()), scheduler.next_batch()] == [[], "a", None]


def test_a_future_does_not_keep_its_image_alive(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(clock=clock)
    answered, cancelled = item("a"), item("a")
    futures = [answered.future, cancelled.future]
    images = [weakref.ref(answered.image), weakref.ref(cancelled.image)]
    scheduler.submit([answered, cancelled])
    futures[1].cancel()
    gc.disable()
    try:
        batch = scheduler.next_batch()
        assert batch is not None
        (running,) = batch
        del batch
        running.future.set_result("done")
        del running, answered, cancelled
        assert [image() for image in images] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("mix", [False, True])
def test_beside_a_flooded_adapter_a_quiet_one_waits_for_one_short_batch(clock: Clock, mix: bool) -> None:
    scheduler: Scheduler[str] = Scheduler(16, 1000, mix=mix, clock=clock)
    for _ in range(3):
        submit(scheduler, clock, item("q"))
        batches(scheduler, clock, 0.005)
    submit(scheduler, clock, *map(item, "f" * 40))
    first = scheduler.next_batch(block=False)
    submit(scheduler, clock, item("q"))

    assert names(first) == "f"
    assert "q" in names(scheduler.next_batch(block=False))


def test_images_that_are_still_decoded_take_their_place_in_the_queue(clock: Clock) -> None:
    scheduler: Scheduler[str] = Scheduler(4, 16, clock=clock)
    scheduler.check_room(["a"], coming=15)
    with pytest.raises(QueueFull, match="found 24 images waiting"):
        scheduler.check_room(["a"], coming=24)
