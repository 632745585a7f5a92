"""One attempt of the door to get a response from a replica, while it watches whether the client is still there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.types import Receive

from lensmount_service.ray.messages import Asked, Head, Piece, Taken

PIECE_BYTES = 2**20  # of a body that is sent on while it arrives


class ReplicaLost(Exception):
    """The replica that had the request has ended, or cannot be reached."""


class ReplicaFailed(Exception):
    """A replica, or Ray, could not work on the request."""


class ClientLeft(Exception):
    """Nobody waits for the response any more."""


class Answering:
    """`head = await answering.head(receive, 60.0)`, then `await answering.part()` until it is None, then `close()`.

    `messages` are those of the replica; its errors are ReplicaLost and ReplicaFailed. `tell` sends a piece to it.
    """

    def __init__(
        self,
        asked: Asked,
        messages: AsyncIterator[Any],
        cancel: Callable[[], None],
        tell: Callable[[Piece], Awaitable[None]],
    ) -> None:
        self._asked = asked
        self._messages = messages
        self._cancel = cancel
        self._tell = tell
        self._reading: asyncio.Task[None] | None = None
        self.is_partly_sent = False  # the client sends each byte once, so nobody could send the rest again
        self._has_ended = False

    async def head(self, receive: Receive, timeout_s: float) -> Head:
        """The beginning of the response. Raises ReplicaLost, ReplicaFailed or ClientLeft.

        Raises TimeoutError after `timeout_s`, which for a body that is sent on is the time until a replica takes it.
        """
        if self._asked.more:
            taken = await asyncio.wait_for(self._next(), max(0.0, timeout_s))
            assert isinstance(taken, Taken)
            self.is_partly_sent = True
            self._reading = asyncio.create_task(self._send_on(receive, taken.replica))
            head = await self._next()
        else:
            self._reading = asyncio.create_task(_until_left(receive))
            head = await asyncio.wait_for(self._next(), max(0.0, timeout_s))
        assert isinstance(head, Head)
        return head

    async def part(self) -> bytes | None:
        """The next part of the response, None at its end. Raises ReplicaLost, ReplicaFailed or ClientLeft."""
        part: bytes | None = await self._next()
        return part

    def close(self) -> None:
        """The client has its response, or has left: a replica that still works on it is told."""
        if self._reading is not None:
            self._reading.cancel()
        if not self._has_ended:
            self._cancel()

    async def _next(self) -> Any:
        """The replica's next message, None at the end. Raises ClientLeft if the client leaves first."""
        waiting = asyncio.ensure_future(anext(self._messages, None))
        watched = {waiting} if self._reading is None else {waiting, self._reading}
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if self._reading is not None and self._reading.done():
                await self._reading  # raises ClientLeft: a reader has no other end
            message = await waiting
            self._has_ended = message is None or (isinstance(message, Head) and not message.more)
            return message
        finally:
            waiting.cancel()

    async def _send_on(self, receive: Receive, replica: str) -> None:
        """Send the rest of the body while it arrives. The replica's pace is that of `tell`."""
        more = True
        while more:
            parts: list[bytes] = []
            while more and sum(map(len, parts)) < PIECE_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                parts.append(message.get("body", b""))
                more = message.get("more_body", False)
            await self._tell(Piece(self._asked.key, replica, b"".join(parts), is_last=not more))
        await _until_left(receive)


async def _until_left(receive: Receive) -> None:
    """The whole body is here, so all that can come is the client's end."""
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientLeft
