from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from lensmount_client._http.concurrency import abounded_map, bounded_map

WIDTH = 3


class Counting:
    """Counts what is at work at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = 0

    def __enter__(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.now -= 1


class Endless:
    """0, 1, 2, ... and how many were taken."""

    taken = 0

    def __iter__(self) -> Iterator[int]:
        while True:
            yield self.taken
            self.taken += 1


def test_exactly_the_given_number_run_at_once() -> None:
    at_work, together = Counting(), threading.Barrier(WIDTH)

    def work(item: int) -> int:
        with at_work:
            together.wait(timeout=10)  # passes only while WIDTH are here
            return item

    assert list(bounded_map(work, range(9), concurrency=WIDTH, ordered=True)) == list(range(9))
    assert at_work.most == WIDTH


def test_exactly_the_given_number_run_at_once_in_the_async_client() -> None:
    async def run() -> tuple[list[int], int]:
        at_work, together = Counting(), asyncio.Barrier(WIDTH)

        async def work(item: int) -> int:
            with at_work:
                await together.wait()
                return item

        return [item async for item in abounded_map(work, range(9), concurrency=WIDTH, ordered=True)], at_work.most

    assert asyncio.run(run()) == (list(range(9)), WIDTH)


def test_an_endless_input_is_read_only_a_little_ahead() -> None:
    source = Endless()
    results = bounded_map(lambda item: item, source, concurrency=WIDTH, ordered=True)
    for yielded in range(1, 50):
        next(results)
        assert source.taken - yielded <= 2 * WIDTH
    results.close()


def test_an_endless_input_is_read_only_a_little_ahead_in_the_async_client() -> None:
    async def run() -> None:
        async def same(item: int) -> int:
            return item

        source = Endless()
        results = abounded_map(same, source, concurrency=WIDTH, ordered=True)
        for yielded in range(1, 50):
            await anext(results)
            assert source.taken - yielded <= 2 * WIDTH
        await results.aclose()

    asyncio.run(run())


@pytest.mark.parametrize(("ordered", "expected"), [(True, [0, 1]), (False, [1, 0])])
def test_results_come_in_input_order_or_as_they_finish(ordered: bool, expected: list[int]) -> None:
    second_out = threading.Event()

    def first_waits(item: int) -> int:
        if item == 0 and not ordered:
            second_out.wait(timeout=10)
        return item

    seen = []
    for item in bounded_map(first_waits, [0, 1], concurrency=2, ordered=ordered):
        seen.append(item)
        second_out.set()
    assert seen == expected


@pytest.mark.parametrize(("ordered", "expected"), [(True, [0, 1]), (False, [1, 0])])
def test_order_in_the_async_client(ordered: bool, expected: list[int]) -> None:
    async def run() -> list[int]:
        second_out = asyncio.Event()

        async def first_waits(item: int) -> int:
            if item == 0 and not ordered:
                await second_out.wait()
            return item

        seen = []
        async for item in abounded_map(first_waits, [0, 1], concurrency=2, ordered=ordered):
            seen.append(item)
            second_out.set()
        return seen

    assert asyncio.run(run()) == expected


def test_leaving_early_cancels_the_calls_in_progress_in_the_async_client() -> None:
    async def run() -> int:
        cancelled = 0

        async def work(item: int) -> int:
            nonlocal cancelled
            try:
                await asyncio.Event().wait() if item else None
            except asyncio.CancelledError:
                cancelled += 1
                raise
            return item

        results = abounded_map(work, range(100), concurrency=4, ordered=True)
        assert await anext(results) == 0
        await asyncio.sleep(0)  # the next three begin
        await results.aclose()
        return cancelled

    assert asyncio.run(run()) >= 3


def test_an_error_of_the_input_ends_the_loop() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        list(bounded_map(lambda item: item, broken(), concurrency=2, ordered=True))
