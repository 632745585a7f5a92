"""Threads of their own for slow work that clients ask for, in turns, and a limit on how much of it waits."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from lensmount_adapters.machine import lower_priority
from lensmount_service.errors import QueueFull

T = TypeVar("T")


class BoundedPool:
    """`await pool.run(work, caller="reader1")`. Only the event loop's thread may call it, so `_waiting` needs no lock.

    The threads of `asyncio.to_thread` are few (6 on 2 cores), and every other route uses them: work of seconds there
    would stall all of them. The caller goes next whose work has cost the least since somebody waited. `_lock` guards
    the lines of callers and what each has had.
    """

    def __init__(self, name: str, threads: int, most: int, *, background: bool = False) -> None:
        """`most` requests run or wait at a time, and as many more of callers of whom nothing else waits.

        `name` says in the refusal what they are, in the plural. The threads of a `background` pool get the time that no
        other thread of the machine asks for (on Linux).
        """
        self._name = name
        self._most = most
        self._waiting: Counter[str] = Counter()
        self._lines: dict[str, deque[tuple[float, Future[Any], Callable[[], Any]]]] = {}
        self._had: dict[str, float] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(
            max_workers=threads,
            thread_name_prefix=f"lensmount-{name}",
            initializer=lower_priority if background else None,
        )

    async def run(
        self,
        work: Callable[[], T],
        unclaimed: Callable[[Future[T]], object] | None = None,
        *,
        caller: str,
        cost: float = 1.0,
    ) -> T:
        """The result of `work`. A request that is cancelled leaves the queue; `unclaimed` gets what was made for it.

        `cost` is in any unit that all work of this pool shares. Raises QueueFull if too many wait.
        """
        self._require_room(caller)
        future: Future[T] = Future()
        with self._lock:
            self._line(caller).append((cost, future, work))
        self._threads.submit(self._take_turn)
        self._waiting[caller] += 1
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if unclaimed is not None:
                future.add_done_callback(unclaimed)  # it may have been made already
            raise
        finally:
            self._waiting[caller] -= 1
            if not self._waiting[caller]:
                del self._waiting[caller]

    def _line(self, caller: str) -> deque[tuple[float, Future[Any], Callable[[], Any]]]:
        """What waits of a caller. Who comes starts level with the one that has had the least, or behind it."""
        if caller not in self._lines:
            least = min((self._had[each] for each in self._lines), default=0.0)
            self._had[caller] = max(least, self._had.get(caller, 0.0))
            self._lines[caller] = deque()
        return self._lines[caller]

    def close(self) -> None:
        with self._lock:
            for line in self._lines.values():
                for _, future, _ in line:
                    future.cancel()
            self._lines.clear()
        self._threads.shutdown(cancel_futures=True)

    def _require_room(self, caller: str) -> None:
        waiting = self._waiting.total()
        if waiting >= self._most * (1 if self._waiting[caller] else 2):
            raise QueueFull(
                f"found {waiting} {self._name} that wait, expected fewer. Fix: try again later", retry_after_s=10
            )

    def _take_turn(self) -> None:
        """Each piece of work brings one turn; whose turn it is is decided when a thread is free."""
        with self._lock:
            if not self._lines:  # closed meanwhile
                return
            caller = min(self._lines, key=self._had.__getitem__)
            cost, future, work = self._lines[caller].popleft()
            self._had[caller] += cost
            if not self._lines[caller]:
                del self._lines[caller]
            if not self._lines:
                self._had.clear()
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            except BaseException as error:  # as in ThreadPoolExecutor: who waits for the future gets it
                future.set_exception(error)
