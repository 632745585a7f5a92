"""How many messages of gRPC may be arriving: gRPC holds a message until it is complete, and does not tell its size.

So a limited number of calls is read at once, and a limited number of streams is open, since a stream may begin a
message at any time. Together they hold at most `(AT_ONCE + STREAMS) * LENSMOUNT_MAX_REQUEST_BYTES`. What is complete
counts as HTTP's bodies do (web/held_bytes.py). A call that is not read holds what flow control lets its client send.

Of each, a caller may have as many as are still free: whatever others have, a caller with few finds room.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from lensmount_service.errors import QueueFull, Unavailable

AT_ONCE = 16  # messages of calls that are read
STREAMS = 64  # that are open

T = TypeVar("T")


class Receptions:
    """`await receptions.read("reader1", reading)`, `with receptions.stream("reader1"):`. The event loop owns it."""

    def __init__(self, timeout_s: float) -> None:
        """A message must be complete within `timeout_s`, the wait for its turn included."""
        self._timeout_s = timeout_s
        self._reading: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def read(self, caller: str, message: Callable[[], Awaitable[T]]) -> T:
        """The message. Callers take turns. Raises Unavailable (`overloaded`) if it does not come in time."""
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                await self._turn(caller)
                try:
                    return await message()
                finally:
                    self._leave(caller)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise Unavailable(
                f"found no complete message after {self._timeout_s:g} s. Fix: send it faster, or fewer at a time",
                code="overloaded",
                retry_after_s=1,
            ) from error

    @contextmanager
    def stream(self, caller: str) -> Iterator[None]:
        """Raises QueueFull if there are too many streams already."""
        if not _has_room(self._streams, caller, STREAMS):
            raise QueueFull(
                f"found {self._streams[caller]} streams of this token and {self._streams.total()} of all, expected "
                f"fewer than are still free of {STREAMS}. Fix: send more requests on one stream, or calls without one",
                retry_after_s=1,
            )
        self._streams[caller] += 1
        try:
            yield
        finally:
            _less(self._streams, caller)

    async def _turn(self, caller: str) -> None:
        if _has_room(self._reading, caller, AT_ONCE):
            self._reading[caller] += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(caller)
            raise

    def _leave(self, caller: str) -> None:
        _less(self._reading, caller)
        for other in list(self._waiting):
            if _has_room(self._reading, other, AT_ONCE) and self._admit(other):
                return

    def _admit(self, caller: str) -> bool:
        """Let in the first of a caller who still waits, and put the caller behind the others."""
        turns = self._waiting.pop(caller)
        while turns and (turn := turns.popleft()).done():
            pass  # its client has left
        if turn.done():
            return False
        if turns:
            self._waiting[caller] = turns
        self._reading[caller] += 1
        turn.set_result(None)
        return True


def _has_room(counts: Counter[str], caller: str, most: int) -> bool:
    return counts[caller] < most - counts.total()


def _less(counts: Counter[str], caller: str) -> None:
    counts[caller] -= 1
    if not counts[caller]:
        del counts[caller]
