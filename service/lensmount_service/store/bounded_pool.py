"""Threads of their own for slow work that clients ask for, and a limit on how many of them wait."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from lensmount_service.errors import QueueFull

T = TypeVar("T")

LOWEST = 19  # niceness


class BoundedPool:
    """`await pool.run(work)`. Only the event loop's thread may call it, so `_waiting` needs no lock.

    The threads of `asyncio.to_thread` are few (6 on 2 cores), and every other route uses them: work of seconds there
    would stall all of them.
    """

    def __init__(self, name: str, threads: int, most: int, *, background: bool = False) -> None:
        """`most` requests run or wait at a time; `name` says in the refusal what they are, in the plural.

        The threads of a `background` pool get the time that no other thread of the machine asks for (on Linux).
        """
        self._name = name
        self._most = most
        self._waiting = 0
        self._threads = ThreadPoolExecutor(
            max_workers=threads,
            thread_name_prefix=f"lensmount-{name}",
            initializer=_give_way if background else None,
        )

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


def _give_way() -> None:
    """Lower the priority of this thread, and of the threads that it starts."""
    if sys.platform == "linux":  # where a priority belongs to a thread and not to its process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)
