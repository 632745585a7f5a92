"""The bytes of bodies that are in memory, all requests together, and what is done so that the system gets them back."""

from __future__ import annotations

import asyncio
import ctypes
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from lensmount_service.errors import Unavailable

TRIM_FROM = 8 * 2**20  # a request that held as many bytes is followed by a trim
TRIM_AFTER_S = 1.0


class HeldBytes:
    """A request may hold as many bytes as are still free. So whatever large bodies are held, a small one finds room."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    @property
    def free(self) -> int:
        return self.most - self.held


@dataclass(slots=True)
class Holding:
    """What one request holds, from the first byte of its body to the end of its response."""

    all_requests: HeldBytes
    held: int = 0

    def add(self, count: int) -> None:
        """Raises Unavailable (`overloaded`) if there is no room for this many more bytes."""
        if self.held + count > self.all_requests.free - count:
            raise Unavailable(
                f"found {self.all_requests.held} bytes of requests in memory, expected room for this body among "
                f"{self.all_requests.most}. Fix: try again in 1 s, or send less in one request",
                code="overloaded",
                retry_after_s=1,
            )
        self.held += count
        self.all_requests.held += count

    def end(self) -> None:
        self.all_requests.held -= self.held
        self.held = 0


class HeldBytesMiddleware:
    """Counts what each request holds, in `request.state.holding`. Only the event loop's thread touches the counts."""

    def __init__(self, app: ASGIApp, held: HeldBytes) -> None:
        self.app = app
        self._held = held
        self._is_to_trim = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        holding = scope.setdefault("state", {})["holding"] = Holding(self._held)
        try:
            await self.app(scope, receive, send)
        finally:
            if holding.held >= TRIM_FROM and not self._is_to_trim:
                self._is_to_trim = True
                asyncio.get_running_loop().call_later(TRIM_AFTER_S, self._trim)
            holding.end()

    def _trim(self) -> None:
        self._is_to_trim = False
        asyncio.get_running_loop().run_in_executor(None, trim)


def trim() -> bool:
    """Give freed memory back to the system, which glibc otherwise keeps. Returns False without glibc."""
    try:
        give_back = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return False
    give_back(0)
    return True
