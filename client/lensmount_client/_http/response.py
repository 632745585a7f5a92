"""An HTTP response, read completely and within a size limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from lensmount_client._errors import ResponseTooLarge


@dataclass(frozen=True)
class Response:
    """One HTTP response. `headers` ignores the case of names. `body` is empty if a sink took the bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def request_id(self) -> str | None:
        return self.headers.get("x-request-id")


class Sink(Protocol):
    """Takes the bytes of a body. `start` discards what an earlier attempt wrote."""

    def start(self) -> None: ...
    def write(self, chunk: bytes) -> None: ...


class Memory:
    """The sink that keeps a body in memory."""

    def __init__(self) -> None:
        self.body = bytearray()

    def start(self) -> None:
        self.body.clear()

    def write(self, chunk: bytes) -> None:
        self.body += chunk


class Receiver:
    """Feeds one response into its sink and stops at the limit.

    Only a 2xx body goes to the call's sink, so that a problem document never ends up in a downloaded file.
    """

    def __init__(self, status: int, headers: Mapping[str, str], sink: Sink | None, limit_bytes: int) -> None:
        self._status = status
        self._headers = headers
        self._memory = Memory()
        self._sink = sink if sink is not None and 200 <= status < 300 else self._memory
        self._bytes_left = self._limit_bytes = limit_bytes
        self._sink.start()

    def feed(self, chunk: bytes) -> None:
        self._bytes_left -= len(chunk)
        if self._bytes_left < 0:
            raise ResponseTooLarge(
                f"found a response of more than {self._limit_bytes} bytes, expected less. "
                "Fix: build the client with a larger max_response_bytes",
                self._headers.get("x-request-id"),
            )
        self._sink.write(chunk)

    def response(self) -> Response:
        return Response(self._status, self._headers, bytes(self._memory.body))
