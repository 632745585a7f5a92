"""One request inside a replica: the messages of the door, turned into calls of the ASGI application, and back.

Only the replica's event loop touches it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

import structlog
from starlette.types import ASGIApp, Message

from lensmount_service.ray.messages import Asked, Head, Piece, Taken

log = structlog.get_logger(__name__)

WINDOW_BYTES = 8 * 2**20  # of a response that the client has not taken yet; then the application waits
MAX_PIECES = 2  # of a body, that the application has not read
JOINED_BYTES = 2**20  # of parts that are sent as one
HEAD_WAIT_S = 0.02  # for the first part of a response, which then travels with its head


class Exchange:
    """`async for message in Exchange(app, asked, "r1").messages(): ...` runs the request and yields its response.

    `give` brings the rest of the body. A caller that closes the generator is a client that has left: the application
    sees `http.disconnect` and ends by itself, as behind any HTTP server.
    """

    def __init__(self, app: ASGIApp, asked: Asked, replica: str) -> None:
        self._app = app
        self._asked = asked
        self._replica = replica
        self._pieces = deque([(asked.body, asked.more)])  # of the body, and whether more follows
        self._parts: asyncio.Queue[Message | None] = asyncio.Queue()
        self._is_read = False  # whether the whole body was given to the application
        self._open_bytes = 0  # of the response, sent and not taken
        self._gone = asyncio.Event()  # whether the client has left or has its whole response
        self._changed = asyncio.Event()  # set by everything that somebody below may wait for

    async def give(self, piece: Piece) -> None:
        """Returns when the application has room for more, which keeps the door from sending faster than it reads."""
        self._open_bytes -= piece.taken
        if piece.left:
            self._gone.set()
        self._changed.set()
        if piece.data or piece.is_last:
            while len(self._pieces) >= MAX_PIECES and not self._gone.is_set():
                await self._change()
            self._pieces.append((piece.data, not piece.is_last))
            self._changed.set()

    async def messages(self) -> AsyncGenerator[Taken | Head | bytes, None]:
        running = asyncio.create_task(self._run())
        _RUNNING.add(running)  # the event loop keeps only weak references
        running.add_done_callback(_RUNNING.discard)
        try:
            if self._asked.more:
                yield Taken(self._replica)
            start = await self._parts.get()
            if start is None:
                raise RuntimeError("the application ended without a response")
            first = await self._soon()
            yield self._head(start, first)
            more = first is None or first.get("more_body", False)
            while more:
                data, more = await self._joined()
                yield data
        finally:
            self._gone.set()
            self._changed.set()

    def _head(self, start: Message, first: Message | None) -> Head:
        headers = [(bytes(name), bytes(value)) for name, value in start.get("headers", ())]
        body, more = (b"", True) if first is None else (first.get("body", b""), first.get("more_body", False))
        return Head(start["status"], headers, bytes(body), more, self._replica)

    async def _soon(self) -> Message | None:
        try:
            return await asyncio.wait_for(self._parts.get(), HEAD_WAIT_S)
        except TimeoutError:
            return None

    async def _joined(self) -> tuple[bytes, bool]:
        """The next part, with those behind it that are here already; and whether there will be more."""
        parts: list[bytes] = []
        message = await self._parts.get()
        while message is not None:
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
            if not more or self._parts.empty() or sum(map(len, parts)) >= JOINED_BYTES:
                return b"".join(parts), more
            message = self._parts.get_nowait()
        raise RuntimeError("the application ended in the middle of a response")

    async def _run(self) -> None:
        asked = self._asked
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": asked.method,
            "scheme": asked.scheme,
            "path": asked.path,
            "raw_path": asked.raw_path,
            "query_string": asked.query,
            "root_path": "",
            "headers": asked.headers,
            "client": asked.client,
            "server": asked.server,
            "state": {},
        }
        try:
            await self._app(scope, self._receive, self._send)
        except Exception as error:  # the outermost call of the application, as in an HTTP server
            log.error("request failed", exc_info=error)
        finally:
            self._parts.put_nowait(None)

    async def _receive(self) -> Message:
        """Waits only if there is nothing to say, because some applications ask with no time to wait."""
        while not self._is_read and not self._gone.is_set():
            if self._pieces:
                body, more = self._pieces.popleft()
                self._is_read = not more
                self._changed.set()
                return {"type": "http.request", "body": body, "more_body": more}
            await self._change()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._gone.is_set():
            await asyncio.sleep(0)  # so that an application that only sends is told that its client has left
            return
        self._open_bytes += len(message.get("body", b""))
        self._parts.put_nowait(message)
        while self._open_bytes > WINDOW_BYTES and not self._gone.is_set():
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


_RUNNING: set[asyncio.Task[None]] = set()
