"""The server's end of a connection: how much a client may send before its request is known, how slowly, and how long it
may leave a response unread.

uvicorn's own protocol holds a request head of any size, waits for the rest of a request as long as the connection is
open, and answers in plain text. Deadlines count only the time for which the server waits for the client.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Any, ClassVar

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lensmount_service.web.error_members import ErrorMembers, extended
from lensmount_service.web.problems import CODES, count_refusal, problem

log = structlog.get_logger(__name__)

KEEP_ALIVE_S = 75.0  # longer than clients keep idle connections (httpx: 5 s), so that none is closed during a request
LINGER_S = 5.0  # for the rest of a body whose request was answered already
_MOST_TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """Limits of one connection, and how many connections there may be. Bodies of any length must keep a pace."""

    max_connections: int = 1000
    max_head_bytes: int = 24 * 1024  # from the method to the empty line
    max_path_bytes: int = 4096
    head_timeout_s: float = 10.0
    body_timeout_s: float = 30.0  # plus one second for each `min_bytes_per_s` that have arrived
    write_timeout_s: float = 30.0  # in which a client reads less than `min_bytes_per_s`
    min_bytes_per_s: int = 1024
    keep_alive_s: float = KEEP_ALIVE_S

    @property
    def tick_s(self) -> float:
        """The seconds between two looks at a connection."""
        return min(_MOST_TICK_S, self.head_timeout_s / 4, self.body_timeout_s / 4, self.write_timeout_s / 4)


class Phase(Enum):
    """What a connection waits for."""

    IDLE = auto()  # the client's next request
    HEAD = auto()  # the rest of a request's head
    BODY = auto()  # the rest of its body
    RESPONSE = auto()  # the server


def protocol_of(limits: TransportLimits) -> type[BoundedProtocol]:
    """The protocol of one server: `uvicorn.Config(app, http=protocol_of(limits))`."""
    return type("BoundedProtocol", (BoundedProtocol,), {"limits": limits, "silent": {}})


class BoundedProtocol(HttpToolsProtocol):
    """One connection. It refuses with 408, 414, 431 or 503 and a problem document, and closes.

    If there are too many connections, the one that has been silent for longest makes room for a new one.
    """

    limits: ClassVar[TransportLimits]
    silent: ClassVar[dict[BoundedProtocol, None]]  # that wait for a request or for its head, the longest waiting first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._phase = Phase.HEAD
        self._waited_s = 0.0  # for the client in this phase
        self._bodiless = 0  # bytes since the head began, or since the last byte of its body
        self._received = 0  # bytes of the body
        self._unsent = 0
        self._unread_s = 0.0
        self._app = partial(_answer_if_cancelled, self.config.loaded_app)
        self.silent[self] = None
        if len(self.connections) > self.limits.max_connections:
            self._make_room()
        self._timer = self.loop.call_later(self.limits.tick_s, self._tick)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self.silent.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEAD)
        self._bodiless += len(data)
        super().data_received(data)
        if self._bodiless > self.limits.max_head_bytes and not self.transport.is_closing():
            self._refuse_head()

    def on_headers_complete(self) -> None:
        self._bodiless = self._received = 0
        self._enter(Phase.BODY)
        is_full = len(self.connections) > self.limits.max_connections
        self.app: Any = partial(_answer_full, self.config.app) if is_full else self._app
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._bodiless = 0
        self._received += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._bodiless = 0
        self._enter(Phase.IDLE if self.cycle.response_complete else Phase.RESPONSE)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._phase is Phase.BODY:
            self._waited_s = 0.0
        elif self._phase is Phase.RESPONSE and self.cycle.response_complete:
            self._enter(Phase.IDLE)

    def resume_writing(self) -> None:
        self._unread_s = 0.0
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self._refuse("bad_request", "found bytes that are not HTTP/1.1. Fix: check the client, or a proxy before it")

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._waited_s = 0.0
        if phase in (Phase.BODY, Phase.RESPONSE):
            self.silent.pop(self, None)
        else:
            self.silent.setdefault(self)

    def _tick(self) -> None:
        self._timer = self.loop.call_later(self.limits.tick_s, self._tick)
        self._check_reading()
        if self.transport.is_closing():
            return
        if self._phase is not Phase.RESPONSE and not self.flow.read_paused:
            self._waited_s += self.limits.tick_s
            if self._waited_s >= self._allowed_s():
                self._close_late()

    def _allowed_s(self) -> float:
        limits = self.limits
        if self._phase is Phase.IDLE:
            return limits.keep_alive_s
        if self._phase is Phase.HEAD:
            return limits.head_timeout_s
        if self.cycle.response_complete:
            return LINGER_S
        return limits.body_timeout_s + self._received / limits.min_bytes_per_s

    def _check_reading(self) -> None:
        """Close if the client reads too little of a response. Also when closing, which waits for the client to read."""
        unsent = self.transport.get_write_buffer_size()
        is_slow = unsent > 0 and unsent > self._unsent - self.limits.min_bytes_per_s * self.limits.tick_s
        self._unread_s = self._unread_s + self.limits.tick_s if is_slow else 0.0
        self._unsent = unsent
        if self._unread_s >= self.limits.write_timeout_s:
            log.info("connection closed", reason="the response was not read")
            self.transport.abort()

    def _close_late(self) -> None:
        if self._phase is Phase.IDLE or (self._phase is Phase.HEAD and not self._bodiless):
            self.transport.close()
            return
        part = "head" if self._phase is Phase.HEAD else "body"
        self._refuse(
            "request_timeout",
            f"found the {part} of a request that arrives too slowly, expected it within "
            f"{self._allowed_s():g} s. Fix: send it at once, or over a faster connection",
        )

    def _refuse_head(self) -> None:
        if len(self.url) > self.limits.max_path_bytes:
            detail = f"found a URI of more than {self.limits.max_path_bytes} bytes, expected at most as many"
            self._refuse("uri_too_long", f"{detail}. Fix: send less in the query")
        else:
            detail = f"found more than {self.limits.max_head_bytes} bytes of headers, expected at most as many"
            self._refuse("headers_too_large", f"{detail}. Fix: send fewer or shorter headers")

    def _refuse(self, code: str, detail: str) -> None:
        """Answer and close. A request that is being handled is told that its client is gone."""
        log.info("connection closed", reason=code)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            is_other = self._phase is Phase.HEAD  # the fault is in the request behind this one
            cycle.disconnected = True
            cycle.message_event.set()
            if is_other or cycle.response_started:
                self.transport.abort()
                return
        count_refusal(self.config.app, code, CODES[code])
        self.transport.write(_document(code, detail, (self.url or b"").decode("latin-1")))
        self.transport.close()

    def _make_room(self) -> None:
        if len(self.connections) > 2 * self.limits.max_connections:
            self.transport.abort()
            return
        longest = next(iter(self.silent))
        if longest is not self:
            self.silent.pop(longest)
            self.connections.discard(longest)  # abort alone does so only later
            longest.transport.abort()


def _document(code: str, detail: str, path: str) -> bytes:
    """A whole response of HTTP/1.1 with a problem document, as clients of this path read it."""
    request_id = uuid.uuid4().hex
    headers = {"Connection": "close", "X-Request-Id": request_id}
    response = extended(path, problem(CODES[code], code, detail, request_id, headers))
    lines = [b"HTTP/1.1 %d " % response.status_code]
    lines += [b"%b: %b" % header for header in response.raw_headers]
    return b"\r\n".join([*lines, b"", bytes(response.body)])


async def _answer_full(app: object, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers in place of the app while there are too many connections."""
    scope["app"] = app  # as Starlette does: it counts the refusal
    advice = "Fix: try again in 1 s, or send requests one after the other over one connection"
    await _unavailable("overloaded", f"found too many connections, expected fewer. {advice}", 1)(scope, receive, send)


async def _answer_if_cancelled(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the app. Requests are cancelled only at the end of the time for the shutdown."""
    has_started = False

    async def send_on(message: Message) -> None:
        nonlocal has_started
        has_started = True
        await send(message)

    try:
        await app(scope, receive, send_on)
    except asyncio.CancelledError:
        if has_started:
            raise
        detail = "the server is shutting down and could not finish this request in time. Fix: try again shortly"
        await _unavailable("draining", detail, 5)(scope, receive, send)


def _unavailable(code: str, detail: str, retry_after_s: int) -> ASGIApp:
    request_id = uuid.uuid4().hex
    headers = {"Connection": "close", "Retry-After": str(retry_after_s), "X-Request-Id": request_id}
    return ErrorMembers(problem(CODES[code], code, detail, request_id, headers, retry_after_s=retry_after_s))
