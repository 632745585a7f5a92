"""Threads that read images, for one caller, adapter and request after the other, by the pixels that each has had.

Who has had the fewest pixels goes next: first among callers, then among a caller's adapters, then among their
requests. So one small image overtakes the large ones of another request, however many wait. Large images never take
the last thread.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")

LARGE = 4_000_000  # pixels: a tenth of a second or more
LEAST = 50_000  # pixels: what reading any image costs
SMALL = 100_000  # pixels: what reading the size of an image and then the image costs at most, if it is small
USUAL = 1_000_000  # pixels: what work of an unknown size is taken for


@dataclass(slots=True)
class _Line(Generic[T]):
    """What a caller, an adapter or a request has had. A request waits for `items`, in order; the others have lines."""

    had: float = 0.0
    served: int = 0
    items: deque[tuple[float, T]] = field(default_factory=deque)
    lines: dict[Hashable, _Line[T]] = field(default_factory=dict)

    def line(self, key: Hashable) -> _Line[T]:
        """Who is new starts level with the one that has had the least."""
        if key not in self.lines:
            self.lines[key] = _Line(min((line.had for line in self.lines.values()), default=0.0))
        return self.lines[key]

    def pop(self, most: float) -> tuple[float, T] | None:
        if self.items:
            return self.items.popleft() if self.items[0][0] <= most else None
        if not self.lines:
            return None
        for key in [min(self.lines, key=self._rank)] if most == math.inf else sorted(self.lines, key=self._rank):
            line = self.lines[key]
            if (taken := line.pop(most)) is not None:
                line.had += taken[0]
                line.served += 1
                if not line.items and not line.lines:
                    del self.lines[key]
                return taken
        return None

    def _rank(self, key: Hashable) -> tuple[float, int]:
        """The lowest goes first. Of two that had as much, it is the one that was served less often since it came."""
        line = self.lines[key]
        return line.had, line.served


class FairQueue(Generic[T]):
    """`queue.push(("reader1", adapter, request), 40e6, item)`, `queue.pop()`. Not safe from several threads."""

    def __init__(self) -> None:
        self._all: _Line[T] = _Line()

    def push(self, of: tuple[Hashable, ...], cost: float, item: T) -> None:
        """`of` is the caller, the adapter and the request; a caller may also have requests alone."""
        line = self._all
        for key in of:
            line = line.line(key)
        line.items.append((cost, item))

    def pop(self, most: float = math.inf) -> tuple[float, T] | None:
        """The next item, and its cost; None if none that costs at most `most` comes first in its request."""
        return self._all.pop(most)


class FairPool:
    """`pool.submit_for(("reader1", adapter, request), pixels, work)` is a future. Nothing is done for nobody."""

    def __init__(self, name: str, threads: int) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=f"lensmount-{name}")
        self._most_large = max(1, threads - 1)
        self._queue: FairQueue[tuple[Future[Any], Callable[[], Any]]] = FairQueue()
        self._waiting = 0  # items that no thread has taken
        self.pixels = 0.0  # of all items so far
        self._large = 0  # that are read now
        self._held_back = 0  # turns that found only large images
        self._lock = threading.Lock()

    def submit_for(self, of: tuple[Hashable, ...], pixels: float, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            self._queue.push(of, max(LEAST, pixels), (future, work))
            self._waiting += 1
            self.pixels += pixels
        self._threads.submit(self._take_turn)
        return future

    @property
    def waiting(self) -> int:
        return self._waiting

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            with self._lock:
                while (taken := self._queue.pop()) is not None:
                    taken[1][0].cancel()
        self._threads.shutdown(wait, cancel_futures=cancel_futures)

    def _take_turn(self) -> None:
        """Each item brings one turn; which item a turn takes is decided when a thread is free."""
        while self._take_one():
            pass

    def _take_one(self) -> bool:
        """Returns True if a turn that was held back can now be taken."""
        with self._lock:
            taken = self._queue.pop(math.inf if self._large < self._most_large else LARGE)
            if taken is None:
                self._held_back += 1
                return False
            cost, (future, work) = taken
            self._waiting -= 1
            self._large += cost > LARGE
        try:
            if future.set_running_or_notify_cancel():
                _settle(future, work)
        finally:
            with self._lock:
                self._large -= cost > LARGE
                resumed = min(self._held_back, 1) if cost > LARGE else 0
                self._held_back -= resumed
        return resumed > 0


def _settle(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        result = work()
    except BaseException as error:  # as in ThreadPoolExecutor: who waits for the future gets it
        future.set_exception(error)
    else:
        future.set_result(result)
