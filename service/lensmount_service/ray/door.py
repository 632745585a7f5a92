"""The door: an ASGI application that sends each request to a replica, and to another one if that replica is lost.

It holds a body until its response begins, because another attempt needs it. It authenticates nobody and checks no
body: the replica's own application does, so answers, problem codes and headers are those of one server.
"""

from __future__ import annotations

import math
import time
import uuid
from collections import OrderedDict
from typing import Protocol
from urllib.parse import parse_qs

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from lensmount_service.errors import DeadlineExceeded, ServiceError, Unavailable
from lensmount_service.ray.answering import Answering, ClientLeft, ReplicaFailed, ReplicaLost
from lensmount_service.ray.hints import Hints
from lensmount_service.ray.messages import Asked, Head, Piece
from lensmount_service.ray.pages import merged
from lensmount_service.settings import MAX_REQUEST_TIMEOUT_S, Settings
from lensmount_service.web.hardening import harden
from lensmount_service.web.held_bytes import HeldBytes, Holding
from lensmount_service.web.problems import CODES, answer_to, problem

log = structlog.get_logger(__name__)

TRIES = 3
GRACE_S = 5.0  # from a request's deadline, when the replica answers 504, to when the door does
PROBE_S = 5.0  # in which a probe finds a replica
PROBES = frozenset({"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/ping"})
MAX_ANSWERS = 10_000  # whose replica is remembered for the feedback on them
TAKEN_BYTES = 2 * 2**20  # of a response that the client has read, before the replica is told


class Replicas(Protocol):
    """The replicas as the door sees them. `calls.RayReplicas` is the one on Ray."""

    def ask(self, asked: Asked) -> Answering:
        """Send a request to the replica that the router chooses."""

    async def tell(self, piece: Piece) -> None:
        """More of a request or of what was read of its response. Nothing happens if the replica is lost."""

    async def pages(self) -> dict[str, bytes]:
        """The page of metrics of each replica."""


class Door:
    """`Door(replicas, hints, settings)` is the ASGI application. All of it runs on one event loop."""

    def __init__(self, replicas: Replicas, hints: Hints, settings: Settings) -> None:
        self._replicas = replicas
        self._hints = hints
        self._settings = settings
        self._kept_bytes = settings.max_image_bytes  # of a body that is held for another attempt
        self._held = HeldBytes(settings.held_bytes())
        self._answers: OrderedDict[str, str] = OrderedDict()  # request id to the replica that has its image

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = uuid.uuid4().hex  # of a response that no replica gives
        holding = Holding(self._held)
        try:
            await self._forward(await self._asked(scope, receive, holding), receive, send)
        except ClientLeft:
            return
        except ServiceError as error:
            await answer_to(error, request_id)(scope, receive, _with_id(send, request_id))
        except ReplicaFailed as error:
            log.error("a replica failed", reason=str(error), request_id=request_id)
            detail = "Internal error. Please report it with the request id and the server log"
            refusal = problem(CODES["internal_error"], "internal_error", detail, request_id)
            await refusal(scope, receive, _with_id(send, request_id))
        finally:
            holding.end()

    async def _asked(self, scope: Scope, receive: Receive, holding: Holding) -> Asked:
        """The request with its body, or with the beginning of a body that is too large to be held."""
        path, query, headers = scope["path"], scope["query_string"], Headers(scope=scope)
        length = headers.get("content-length", "0")
        body, more = b"", True
        if len(length) < 20 and not (length.isdecimal() and int(length) > self._kept_bytes):  # int refuses 5,000 digits
            body, more = await _body(receive, self._kept_bytes, holding)
        asked = Asked(
            scope["method"],
            path,
            scope.get("raw_path") or path.encode(),
            query,
            [(bytes(name), bytes(value)) for name, value in scope["headers"]],
            tuple(scope["client"]) if scope.get("client") else None,
            tuple(scope["server"]) if scope.get("server") else None,
            scope.get("scheme", "http"),
            body,
            more,
            await self._hints.digest(scope["method"], path, query, headers),
        )
        if path == "/feedback" and (answer := parse_qs(query.decode("latin-1")).get("request_id")):
            asked.wanted = self._answers.get(answer[0])
        return asked

    async def _forward(self, asked: Asked, receive: Receive, send: Send) -> None:
        expires_at = time.monotonic() + self._timeout_s(asked)
        for attempt in range(1, TRIES + 1):
            answering = self._replicas.ask(asked)
            try:
                head = await answering.head(receive, expires_at - time.monotonic())
            except ReplicaLost as error:
                log.warning("a replica was lost", path=asked.path, attempt=attempt, tried=asked.tried)
                if attempt == TRIES or not _may_repeat(asked, answering) or time.monotonic() >= expires_at:
                    raise _unknown(asked) from error
            except TimeoutError as error:
                raise _late(asked, self._timeout_s(asked)) from error
            else:
                self._note(asked, head)
                await self._respond(asked, head, answering, send)
                return
            finally:
                answering.close()

    async def _respond(self, asked: Asked, head: Head, answering: Answering, send: Send) -> None:
        """Send what the replica answers. If it is lost meanwhile, the connection closes, as that of a server does."""
        if asked.path == "/metrics" and head.status == 200 and not head.more:
            head = merged(head, await self._replicas.pages())
        await send({"type": "http.response.start", "status": head.status, "headers": head.headers})
        await send({"type": "http.response.body", "body": head.body, "more_body": head.more})
        untold = len(head.body)
        while head.more and (part := await answering.part()) is not None:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            untold += len(part)
            if untold >= TAKEN_BYTES:
                await self._replicas.tell(Piece(asked.key, head.replica, taken=untold))
                untold = 0
        if head.more:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _timeout_s(self, asked: Asked) -> float:
        """Seconds in which the response must begin: the request's own, and some for the replica's refusal."""
        if asked.path in PROBES:
            return PROBE_S
        told = parse_qs(asked.query.decode("latin-1")).get("timeout", [""])[0]
        try:
            own = float(told)
        except ValueError:
            own = math.nan
        if math.isnan(own):  # the replica refuses what is no number
            own = self._settings.request_timeout_s
        return min(max(own, 0.0), MAX_REQUEST_TIMEOUT_S) + GRACE_S

    def _note(self, asked: Asked, head: Head) -> None:
        """Remember which replica keeps the image of this answer, if images are kept."""
        if asked.digest is None or self._settings.feedback != "on":
            return
        request_id = next((value for name, value in head.headers if name.lower() == b"x-request-id"), b"")
        self._answers[request_id.decode("latin-1")] = head.replica
        if len(self._answers) > MAX_ANSWERS:
            self._answers.popitem(last=False)


def _may_repeat(asked: Asked, answering: Answering) -> bool:
    """Whether a second attempt does nothing twice: a prediction, a read, or a write with a key against repetition."""
    if answering.is_partly_sent:
        return False
    if asked.method in ("GET", "HEAD", "OPTIONS") or (asked.digest is not None and asked.path != "/feedback"):
        return True
    return not asked.tried or any(name.lower() == b"idempotency-key" for name, _ in asked.headers)


def _unknown(asked: Asked) -> ServiceError:
    if asked.method == "GET" or asked.digest is not None:
        return Unavailable(
            f"found {TRIES} servers in a row that ended during this request, expected one that answers. "
            "Fix: try again in 1 s",
            retry_after_s=1,
        )
    return DeadlineExceeded(
        "the server that worked on this request has ended, so nobody knows whether the request took effect. "
        "Fix: read what it was to change, then repeat it if it is needed"
    )


def _late(asked: Asked, timeout_s: float) -> ServiceError:
    if not asked.tried:
        return Unavailable(
            "found no server that is ready, expected at least one. Fix: try again in 5 s", retry_after_s=5
        )
    return DeadlineExceeded.after(timeout_s - GRACE_S)


async def _body(receive: Receive, most: int, holding: Holding) -> tuple[bytes, bool]:
    """At least the first `most` bytes of a body, and whether there is more. Raises ClientLeft or Unavailable."""
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part = message.get("body", b"")
        holding.add(len(part))
        parts.append(part)
        length += len(part)
        more = message.get("more_body", False)
        if not more or length > most:
            return b"".join(parts), more


def _with_id(send: Send, request_id: str) -> Send:
    async def send_with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Request-Id"] = request_id
            harden(message)
        await send(message)

    return send_with_id


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
