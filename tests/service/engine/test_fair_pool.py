from __future__ import annotations

import random
import threading
from functools import partial

import pytest

from lensmount_service.engine.fair_pool import LARGE, FairPool, FairQueue


def order(queue: FairQueue[str]) -> str:
    taken = ""
    while (item := queue.pop()) is not None:
        taken += item[1]
    return taken


def test_callers_take_turns_by_what_they_have_had() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in "AAAA":
        queue.push(("a", "one"), 4, item)
    for item in "bbbbbbbb":
        queue.push(("b", "two"), 1, item)

    assert order(queue) == "AbbbbAbbbbAA"


def test_requests_of_one_caller_take_turns_in_the_same_way_and_keep_their_order() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in "1234":
        queue.push(("a", "one"), 1, item)
    for item in "xyz":
        queue.push(("a", "two"), 1, item)

    assert order(queue) == "1x2y3z4"


def test_many_requests_of_one_caller_weigh_no_more_than_one() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(6):
        queue.push(("loud", number), 1, "l")
    for _ in range(3):
        queue.push(("quiet", 0), 1, "q")

    assert order(queue) == "lqlqlqlll"


def test_adapters_of_one_caller_take_turns_before_their_requests_do() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(4):
        queue.push(("", "histology", number), 1, "h")
    for number in range(2):
        queue.push(("", "malaria", number), 1, "m")

    assert order(queue) == "hmhmhh"


def test_who_comes_later_starts_level_and_owes_nothing_for_what_others_had() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(4):
        queue.push(("a", 0), 40, "A")
    assert queue.pop() == (40, "A")
    for _ in range(3):
        queue.push(("b", 0), 1, "b")

    assert order(queue) == "bAbbAA"


def test_only_what_costs_little_is_taken_if_asked_for() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push(("a", 0), 40, "A")
    queue.push(("b", 0), 1, "b")

    assert [queue.pop(most=10), queue.pop(most=10), queue.pop()] == [(1, "b"), None, (40, "A")]


def test_nothing_is_lost_or_doubled_in_random_use() -> None:
    draw, queue = random.Random(0), FairQueue[int]()
    inside: set[int] = set()
    for number in range(5000):
        if draw.random() < 0.5:
            queue.push((draw.choice("abc"), draw.randrange(5)), draw.choice([1, 10, 100]), number)
            inside.add(number)
        elif (taken := queue.pop(draw.choice([5, 50, 500]))) is not None:
            inside.remove(taken[1])
    while (taken := queue.pop()) is not None:
        inside.remove(taken[1])

    assert inside == set()


@pytest.fixture
def free() -> threading.Event:
    return threading.Event()


def test_64_large_images_leave_a_thread_for_a_small_one(free: threading.Event) -> None:
    pool = FairPool("tests", threads=2)
    large = [pool.submit_for(("loud", "batch"), 10 * LARGE, lambda: free.wait(30)) for _ in range(64)]
    small = pool.submit_for(("quiet", "one"), 1000, lambda: "read")

    assert small.result(20) == "read"
    assert not any(future.done() for future in large)
    free.set()
    assert all(future.result(20) for future in large)
    pool.shutdown()


def test_what_is_cancelled_is_not_read(free: threading.Event) -> None:
    pool = FairPool("tests", threads=2)
    begun: list[int] = []

    def read(number: int) -> None:
        begun.append(number)
        free.wait(30)

    futures = [pool.submit_for(("a", "batch"), 10 * LARGE, partial(read, number)) for number in range(9)]
    while not begun:
        pass
    for future in futures[1:]:
        assert future.cancel()
    free.set()
    last = pool.submit_for(("a", "one"), 1, lambda: "after")

    assert last.result(20) == "after"
    assert futures[0].result(20) is None
    pool.shutdown()
    assert begun == [0]


def test_an_error_reaches_its_future_and_ends_no_thread() -> None:
    pool = FairPool("tests", threads=1)
    failing = pool.submit_for(("a", "one"), 1, lambda: 1 // 0)

    assert isinstance(failing.exception(20), ZeroDivisionError)
    assert pool.submit_for(("a", "two"), 1, lambda: 2**3).result(20) == 8
    pool.shutdown()


def test_a_shutdown_cancels_what_waits(free: threading.Event) -> None:
    pool = FairPool("tests", threads=1)
    futures = [pool.submit_for(("a", "batch"), LARGE + 1, lambda: free.wait(30)) for _ in range(3)]
    while not futures[0].running():
        pass
    free.set()
    pool.shutdown(cancel_futures=True)

    assert futures[0].result(20)
    assert all(future.done() for future in futures)


def test_what_waits_for_a_thread_is_counted(free: threading.Event) -> None:
    pool = FairPool("tests", threads=1)
    futures = [pool.submit_for(("a", "batch"), 1, lambda: free.wait(30)) for _ in range(4)]
    while pool.waiting > 3:
        pass
    assert pool.waiting == 3
    free.set()

    assert all(future.result(20) for future in futures)
    assert pool.waiting == 0
    pool.shutdown()
