"""Parse server-sent events from the bytes of a response (WHATWG HTML, section 9.2), without I/O.

This is not httpx-sse, which yields one empty event for each keep-alive that follows an id, does not limit the
length of a line, and reads from a response, so that each client would need its own version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lensmount_client._errors import ResponseTooLarge

LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")  # a CR at the very end may be the first half of CRLF


@dataclass(frozen=True)
class ServerSentEvent:
    """One event. `id` is the id that the event itself has, or None."""

    kind: str
    data: str
    id: str | None


class EventDecoder:
    """`for event in decoder.feed(chunk)`. Use a new decoder for each connection: an unfinished event is dropped.

    Raises ResponseTooLarge for an event of more than `limit_bytes`.
    """

    def __init__(self, limit_bytes: int = 2**20) -> None:
        self._limit_bytes = limit_bytes
        self._pending = b""
        self._started = False
        self._kind = ""
        self._id: str | None = None
        self._data: list[str] = []
        self._size_bytes = 0

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        self._pending += chunk
        if not self._started and len(self._pending) >= 3:
            self._pending = self._pending.removeprefix(b"\xef\xbb\xbf")
            self._started = True
        *lines, self._pending = LINE_END.split(self._pending)
        for line in lines:
            event = self._take(line.decode(errors="replace"))
            if event is not None:
                yield event
        self._check_size(len(self._pending))

    def _take(self, line: str) -> ServerSentEvent | None:
        if not line:
            event = ServerSentEvent(self._kind or "message", "\n".join(self._data), self._id) if self._data else None
            self._reset()
            return event
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size_bytes += len(value) + 1
            self._check_size(self._size_bytes)
        elif name == "event":
            self._kind = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None  # a comment (empty name), `retry`, or a field of a newer standard

    def _reset(self) -> None:
        self._kind, self._id, self._data, self._size_bytes = "", None, [], 0

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._limit_bytes:
            raise ResponseTooLarge(f"found an event of more than {self._limit_bytes} bytes")
