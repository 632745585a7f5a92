"""Apply a function to many inputs: several at a time, in order, never far ahead of the consumer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

I = TypeVar("I")  # noqa: E741  input
R = TypeVar("R")  # result

AHEAD = 2  # inputs taken per worker: one in work, one ready


def bounded_map(
    function: Callable[[I], R], inputs: Iterable[I], *, concurrency: int, ordered: bool
) -> Generator[R, None, None]:
    """Run at most `concurrency` calls at a time. At most twice as many inputs are taken beyond the last result."""
    source = iter(inputs)
    window: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="lensmount")
    try:
        while True:
            for item in islice(source, AHEAD * concurrency - len(window)):
                window.append(pool.submit(function, item))
            if not window:
                return
            done = window[0] if ordered else wait(window, return_when=FIRST_COMPLETED).done.pop()
            window.remove(done)
            yield done.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


async def abounded_map(
    function: Callable[[I], Awaitable[R]], inputs: Iterable[I], *, concurrency: int, ordered: bool
) -> AsyncGenerator[R, None]:
    """Like `bounded_map`, for coroutines. Leaving the loop early cancels the calls in progress."""
    source = iter(inputs)
    window: deque[asyncio.Task[R]] = deque()
    slots = asyncio.Semaphore(concurrency)

    async def in_a_slot(item: I) -> R:
        async with slots:
            return await function(item)

    try:
        while True:
            for item in islice(source, AHEAD * concurrency - len(window)):
                window.append(asyncio.create_task(in_a_slot(item)))
            if not window:
                return
            done = window[0] if ordered else await _first(window)
            result = await done
            window.remove(done)
            yield result
    finally:
        for task in window:
            task.cancel()
        await asyncio.gather(*window, return_exceptions=True)


async def _first(window: Iterable[asyncio.Task[R]]) -> asyncio.Task[R]:
    done, _ = await asyncio.wait(window, return_when=asyncio.FIRST_COMPLETED)
    return done.pop()
