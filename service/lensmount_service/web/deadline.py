"""The deadline of a request: its work is cancelled when its time is over or its client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.requests import ClientDisconnect

from lensmount_service.errors import DeadlineExceeded


@asynccontextmanager
async def deadline(request: Request, timeout_s: float) -> AsyncIterator[None]:
    """Use `async with deadline(request, 60): ...` after the body is read; the block is cancelled at the deadline.

    Raises DeadlineExceeded, or ClientDisconnect.
    """
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        scope.reschedule(asyncio.get_running_loop().time())

    try:
        async with asyncio.timeout(timeout_s) as scope:
            watcher = asyncio.create_task(watch())
            try:
                yield
            finally:
                watcher.cancel()
    except TimeoutError as error:
        if gone:
            raise ClientDisconnect from error
        if not scope.expired():
            raise
        raise DeadlineExceeded.after(timeout_s) from error
