"""A keep-alive connection that posts prepared bytes with a fraction of the CPU time of a full HTTP client."""

from __future__ import annotations

import re
import secrets
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import httpx

from lensmount_client._errors import LensmountError, ServerUnreachable, TimedOut, UnexpectedResponse
from lensmount_client._http.response import Response
from lensmount_client._version import __version__

IDLE_S = 1.0  # after a longer rest a connection is checked before use, because the server may have closed it
RECEIVED_BYTES = 65_536
LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n")


@dataclass(frozen=True)
class Body:
    """An image as each request sends it: the headers that describe it, the blank line, the bytes."""

    content: bytes

    @classmethod
    def raw(cls, image: bytes) -> Body:
        return cls(b"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n%b" % (len(image), image))

    @classmethod
    def multipart(cls, image: bytes, file_name: str = "image") -> Body:
        """One part named `file`, as a web form sends it."""
        boundary = secrets.token_hex(16).encode()
        quoted = re.sub(r'["\\\r\n]', "_", file_name).encode(errors="replace")
        part = (
            b'--%b\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n'
            b"Content-Type: application/octet-stream\r\n\r\n%b\r\n--%b--\r\n" % (boundary, quoted, image, boundary)
        )
        return cls(
            b"Content-Type: multipart/form-data; boundary=%b\r\nContent-Length: %d\r\n\r\n%b"
            % (boundary, len(part), part)
        )


@dataclass(frozen=True)
class Origin:
    """The server: `Origin.of("http://127.0.0.1:8000", token=None)`. Proxy settings are ignored."""

    host: str
    port: int
    secure: bool
    path: str
    headers: bytes

    @classmethod
    def of(cls, base_url: str, token: str | None) -> Origin:
        url = httpx.URL(base_url)
        secure = url.scheme == "https"
        headers = b"Host: %b\r\nUser-Agent: lensmount-bench/%b\r\nAccept: */*\r\n" % (url.netloc, __version__.encode())
        if token:
            headers += b"Authorization: Bearer %b\r\n" % token.encode()
        return cls(url.host, url.port or (443 if secure else 80), secure, url.raw_path.decode().rstrip("/"), headers)

    def head(self, path: str) -> bytes:
        """The part of a request before its `Body`."""
        return b"POST %b HTTP/1.1\r\n%b" % ((self.path + path).encode(), self.headers)


class Connection:
    """`Connection(origin, timeout_s=60).post(origin.head("/predict?adapter=malaria"), Body.raw(image))`.

    It is opened when needed, kept for the next request, and reopened after any error. Once `stopping` is set it is
    not opened any more: a thread that sets it and then closes all connections does not wait for a response.
    """

    def __init__(
        self,
        origin: Origin,
        timeout_s: float,
        stopping: threading.Event | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._origin = origin
        self._timeout_s = timeout_s
        self._stopping = stopping or threading.Event()
        self._clock = clock
        self._socket: socket.socket | None = None
        self._used_at = 0.0

    def post(self, head: bytes, body: Body) -> Response:
        """The complete response, with any status. Raises ServerUnreachable, TimedOut or UnexpectedResponse."""
        where = f"{self._origin.host}:{self._origin.port}"
        try:
            wire = self._ready()
            wire.sendall(head + body.content)
            return self._receive(wire)
        except TimeoutError as error:
            self.close()
            raise TimedOut(f"{where} sent nothing for {self._timeout_s:g} s") from error
        except OSError as error:
            self.close()
            raise ServerUnreachable(f"the connection to {where} broke ({error or type(error).__name__})") from error
        except LensmountError:
            self.close()
            raise

    def close(self) -> None:
        """May be called from another thread: a request in progress fails at once."""
        wire, self._socket = self._socket, None
        if wire is not None:
            with suppress(OSError):  # the server closed it first
                wire.shutdown(socket.SHUT_RDWR)
            wire.close()

    def _ready(self) -> socket.socket:
        if self._socket is not None and self._clock() - self._used_at > IDLE_S and _is_readable(self._socket):
            self.close()
        if self._socket is None:
            wire = socket.create_connection((self._origin.host, self._origin.port), self._timeout_s)
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._origin.secure:
                wire = ssl.create_default_context().wrap_socket(wire, server_hostname=self._origin.host)
            self._socket = wire
            if (
                self._stopping.is_set()
            ):  # checked after `_socket` is set: either this thread sees the event, or close() sees the socket
                raise ConnectionAbortedError("stopped")
        return self._socket

    def _receive(self, wire: socket.socket) -> Response:
        reader = _Reader(wire)
        head = reader.until(b"\r\n\r\n")
        lowered = head.lower()
        length = LENGTH.search(lowered)
        if not head.startswith(b"HTTP/1.") or not head[9:12].isdigit():
            raise UnexpectedResponse(f"found {head[:40]!r}, expected an HTTP/1.1 response")
        if length:
            content = reader.exactly(int(length[1]))
        elif b"\r\ntransfer-encoding: chunked\r\n" in lowered:
            content = reader.chunks()
        else:
            raise UnexpectedResponse("found a response without a length, expected Content-Length or chunks")
        self._used_at = self._clock()
        if b"\r\nconnection: close\r\n" in lowered:
            self.close()
        status = int(head[9:12])
        return Response(status, {} if status < 300 else _headers(head), content)  # only errors need them


class _Reader:
    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._buffer = b""

    def until(self, end: bytes) -> bytes:
        """All bytes up to the end of `end`."""
        while (position := self._buffer.find(end)) < 0:
            self._receive_more()
        return self._take(position + len(end))

    def exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._receive_more()
        return self._take(count)

    def chunks(self) -> bytes:
        content = b""
        while True:
            line = self.until(b"\r\n")
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError as error:
                raise UnexpectedResponse(f"found {line[:40]!r}, expected the size of a chunk") from error
            chunk = self.exactly(size + 2)
            if size == 0:
                return content
            content += chunk[:-2]

    def _receive_more(self) -> None:
        received = self._wire.recv(RECEIVED_BYTES)
        if not received:
            raise ConnectionResetError("the server closed the connection")
        self._buffer += received

    def _take(self, count: int) -> bytes:
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken


def _is_readable(wire: socket.socket) -> bool:
    """True if there is something to read. On an idle connection that can only be its end."""
    with selectors.DefaultSelector() as selector:
        selector.register(wire, selectors.EVENT_READ)
        return bool(selector.select(0))


def _headers(head: bytes) -> dict[str, str]:
    """The headers, by lower-case name."""
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.lower(): value.strip() for name, _, value in lines if name}
