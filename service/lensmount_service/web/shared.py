"""Work that many clients ask for and that gives all of them the same: done once for all who ask meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """`result, age_s = await shared.get()`, in the event loop. A loop of requests costs the server no more than one.

    Work in progress is shared by all who ask, and continues if one of them leaves. A result is given again until it is
    `max_age_s` old. Errors are shared in the same way, and not kept.
    """

    def __init__(
        self, work: Callable[[], Awaitable[T]], max_age_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._work = work
        self._max_age_s = max_age_s
        self._clock = clock
        self._running: asyncio.Task[T] | None = None
        self._last: tuple[T, float] | None = None

    async def get(self) -> tuple[T, float]:
        """The result, and the seconds since it was ready."""
        if self._last is not None and self._clock() - self._last[1] < self._max_age_s:
            return self._last[0], self._clock() - self._last[1]
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await asyncio.shield(self._running), 0.0

    async def _run(self) -> T:
        try:
            result = await self._work()
            self._last = (result, self._clock())
            return result
        finally:
            self._running = None
