"""Threads of their own for slow work that clients ask for, and a limit on how many of them wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from lensmount_service.errors import QueueFull

T = TypeVar("T")


class BoundedPool:
    """`await pool.run(work)`. Only the event loop's thread may call it, so `_waiting` needs no lock.

    The threads of `asyncio.to_thread` are few (6 on 2 cores), and every other route uses them: work of seconds there
    would stall all of them.
    """

    def __init__(self, name: str, threads: int, most: int) -> None:
        """`most` requests run or wait at a time; `name` says in the refusal what they are, in the plural."""
        self._name = name
        self._most = most
        self._waiting = 0
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=f"lensmount-{name}")

    async def run(self, work: Callable[[], T], unclaimed: Callable[[Future[T]], object] | None = None) -> T:
        """The result of `work`. A request that is cancelled leaves the queue; `unclaimed` gets what was made for it.

        Raises QueueFull if too many wait.
        """
        if self._waiting >= self._most:
            raise QueueFull(
                f"found {self._most} {self._name} that wait, expected fewer. Fix: try again later", retry_after_s=10
            )
        self._waiting += 1
        future = self._threads.submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if unclaimed is not None:
                future.add_done_callback(unclaimed)  # it may have been made already
            raise
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
