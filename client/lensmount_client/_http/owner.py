"""Whose connections a client has: those of one process and, for the async client, of one event loop."""

from __future__ import annotations

import os

from lensmount_client._errors import InvalidInput


class Owner:
    """`owner.require(closed=False)` before each request. The first one says whose the connections are.

    A forked process would read the answers that its parent waits for, and a connection of one event loop cannot be
    used in another one.
    """

    def __init__(self) -> None:
        self._process: int | None = None
        self._loop: object | None = None

    def require(self, closed: bool, loop: object | None = None) -> None:
        """Raises InvalidInput for a closed client, and for one whose first request was sent from elsewhere."""
        if closed:
            raise InvalidInput("found a client that was closed, expected an open one. Fix: build a new client")
        if self._process is None:
            self._process, self._loop = os.getpid(), loop
        if self._process != os.getpid():
            raise InvalidInput(
                "found a client that was used before a fork, expected one of this process. "
                "Fix: build a client in each process"
            )
        if self._loop is not loop:
            raise InvalidInput(
                "found a client that was used in another event loop, expected one of this loop. "
                "Fix: build a client in each asyncio.run"
            )
