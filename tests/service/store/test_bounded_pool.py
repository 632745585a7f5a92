"""Slow work that clients ask for leaves the threads of other routes free, and only so much of it waits."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lensmount_service.errors import QueueFull
from lensmount_service.store.bounded_pool import BoundedPool

MANY = 40  # more than the threads of asyncio.to_thread


@pytest.fixture
def free() -> Iterator[threading.Event]:
    """What the work of the tests waits for; set at the latest when a test ends."""
    event = threading.Event()
    yield event
    event.set()


def test_waiting_work_takes_none_of_the_threads_that_other_requests_use(free: threading.Event) -> None:
    async def scenario() -> tuple[str, list[bool]]:
        pool = BoundedPool("tests", threads=2, most=MANY)
        waiting = [asyncio.ensure_future(pool.run(lambda: free.wait(30), caller="reader1")) for _ in range(MANY)]
        await asyncio.sleep(0)
        other = await asyncio.wait_for(asyncio.to_thread(lambda: "answered"), 20)
        free.set()
        results = await asyncio.gather(*waiting)
        pool.close()
        return other, results

    assert asyncio.run(scenario()) == ("answered", [True] * MANY)


def test_more_than_may_wait_are_refused_and_one_that_gives_up_makes_room(free: threading.Event) -> None:
    async def scenario() -> None:
        pool = BoundedPool("tests", threads=1, most=2)
        first, second = (asyncio.ensure_future(pool.run(lambda: free.wait(30), caller="reader1")) for _ in range(2))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull, match=r"found 2 tests that wait, expected fewer\. Fix: try again later"):
            await pool.run(lambda: True, caller="reader1")

        second.cancel()
        await asyncio.wait([second])
        third = asyncio.ensure_future(pool.run(lambda: True, caller="reader1"))
        free.set()
        assert list(await asyncio.gather(first, third)) == [True, True]
        pool.close()

    asyncio.run(scenario())


def test_what_was_made_for_a_request_that_gave_up_is_handed_over(free: threading.Event) -> None:
    made: list[bool] = []

    async def scenario() -> None:
        pool = BoundedPool("tests", threads=1, most=2)
        started = threading.Event()

        def work() -> bool:
            started.set()
            return free.wait(30)

        request = asyncio.ensure_future(pool.run(work, lambda future: made.append(future.result()), caller="reader1"))
        await asyncio.to_thread(started.wait, 20)
        request.cancel()
        await asyncio.wait([request])
        free.set()
        pool.close()

    asyncio.run(scenario())
    assert made == [True]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority belongs to the process")
def test_the_threads_of_a_background_pool_have_the_lowest_priority_and_this_thread_keeps_its_own() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def scenario() -> int:
        pool = BoundedPool("tests", threads=1, most=2, background=True)
        try:
            return await pool.run(niceness, caller="reader1")
        finally:
            pool.close()

    before = niceness()

    assert asyncio.run(scenario()) == 19
    assert niceness() == before < 19


def test_who_asks_for_one_thing_waits_for_one_of_each_other_caller_and_finds_room_in_a_full_pool(
    free: threading.Event,
) -> None:
    done: list[str] = []

    async def scenario() -> None:
        pool = BoundedPool("tests", threads=1, most=4)
        first = asyncio.ensure_future(pool.run(lambda: free.wait(30), caller="loud"))
        loud = [asyncio.ensure_future(pool.run(lambda: done.append("loud"), caller="loud")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await pool.run(lambda: None, caller="loud")
        quiet = [asyncio.ensure_future(pool.run(lambda: done.append("quiet"), caller=f"q{n}")) for n in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await pool.run(lambda: None, caller="q9")
        free.set()
        await asyncio.gather(first, *loud, *quiet)
        pool.close()

    asyncio.run(scenario())

    assert done == ["loud", *["quiet"] * 4, "loud", "loud"]


def test_closing_ends_the_wait_of_all(free: threading.Event) -> None:
    async def scenario() -> list[bool]:
        pool = BoundedPool("tests", threads=1, most=4)
        started = threading.Event()
        waiting = [
            asyncio.ensure_future(pool.run(lambda: started.set() or free.wait(30), caller="reader1")) for _ in range(3)
        ]
        await asyncio.to_thread(started.wait, 20)
        closing = asyncio.create_task(asyncio.to_thread(pool.close))
        await asyncio.wait(waiting[1:])
        free.set()
        await closing
        await asyncio.wait(waiting)
        return [each.cancelled() for each in waiting]

    assert asyncio.run(scenario()) == [False, True, True]


def test_who_asked_for_costly_work_waits_until_the_others_have_had_as_much(free: threading.Event) -> None:
    done: list[str] = []

    async def scenario() -> None:
        pool = BoundedPool("tests", threads=1, most=20)
        started = threading.Event()
        first = asyncio.ensure_future(pool.run(lambda: started.set() or free.wait(30), caller="other"))
        await asyncio.to_thread(started.wait, 20)
        costly = [asyncio.ensure_future(pool.run(lambda: done.append("costly"), caller="a", cost=5)) for _ in range(2)]
        cheap = [asyncio.ensure_future(pool.run(lambda: done.append("cheap"), caller="b")) for _ in range(6)]
        await asyncio.sleep(0)
        free.set()
        await asyncio.gather(first, *costly, *cheap)
        pool.close()

    asyncio.run(scenario())

    assert done == ["costly", *["cheap"] * 5, "costly", "cheap"]


def test_who_comes_back_waits_for_what_the_own_work_has_cost(free: threading.Event) -> None:
    done: list[str] = []

    async def scenario() -> None:
        pool = BoundedPool("tests", threads=1, most=20)
        begin, runs = threading.Event(), threading.Event()
        waiting: list[asyncio.Future[Any]] = []
        waiting += [asyncio.ensure_future(pool.run(lambda: begin.wait(30), caller="other"))]
        waiting += [asyncio.ensure_future(pool.run(lambda: runs.set() or free.wait(30), caller="a", cost=3))]
        await asyncio.sleep(0)
        waiting += [asyncio.ensure_future(pool.run(lambda: done.append("cheap"), caller="b")) for _ in range(4)]
        await asyncio.sleep(0)
        begin.set()
        await asyncio.to_thread(runs.wait, 20)
        waiting += [asyncio.ensure_future(pool.run(lambda: done.append("costly"), caller="a", cost=3))]
        await asyncio.sleep(0)
        free.set()
        await asyncio.gather(*waiting)
        pool.close()

    asyncio.run(scenario())

    assert done == [*["cheap"] * 4, "costly"]
