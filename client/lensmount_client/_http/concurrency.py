"""Run one function over many inputs: several at a time, in order, never far ahead of the consumer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

I = TypeVar("I")  # noqa: E741  input
R = TypeVar("R")  # result

AHEAD = 2  # inputs taken per worker: one at work, one ready


def bounded_map(
    function: Callable[[I], R], inputs: Iterable[I], *, concurrency: int, ordered: bool
) -> Generator[R, None, None]:
    """At most `concurrency` calls at once and twice as many inputs taken beyond the last one yielded."""
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
    """The async twin of `bounded_map`; leaving early cancels what is under way."""
    source = iter(inputs)
    window: deque[asyncio.Task[R]] = deque()
    turn = asyncio.Semaphore(concurrency)

    async def take_turn(item: I) -> R:
        async with turn:
            return await function(item)

    try:
        while True:
            for item in islice(source, AHEAD * concurrency - len(window)):
                window.append(asyncio.create_task(take_turn(item)))
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
