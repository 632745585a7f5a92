"""Runs before every route: request id, limits on the request head, who calls. Denies by default."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lensmount_service.access.authenticator import Authenticator
from lensmount_service.access.custom_attributes import with_token
from lensmount_service.errors import MediaTypeUnsupported, ServiceError
from lensmount_service.web.compression import ENCODINGS
from lensmount_service.web.hardening import harden
from lensmount_service.web.problems import CODES, answer_to, problem

log = structlog.get_logger(__name__)

MAX_HEADERS = 64
MAX_HEAD_BYTES = 16 * 1024
MAX_PATH_BYTES = 4096
UNPACKED_PATHS = "/v2/"  # whose routes read their bodies with `read_unpacked`
ONCE = frozenset(
    {
        *(b"host", b"origin", b"authorization", b"content-length", b"content-encoding", b"content-range"),
        *(b"idempotency-key", b"lensmount-lease", b"last-event-id"),
    }
)  # headers that have one value, of which a second one would be ignored


class AccessMiddleware:
    """Plain ASGI middleware that admits or refuses a request, and says who calls in `request.state.identity`.

    `open_paths` are served to anybody.
    """

    def __init__(self, app: ASGIApp, authenticator: Authenticator, open_paths: Collection[str]) -> None:
        self.app = app
        self._authenticator = authenticator
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
                harden(message)
            await send(message)

        refusal = _refusal(scope, request_id) or await self._unknown(scope, request_id)
        await (refusal or self.app)(scope, receive, send_with_id)
        log.info(
            "request",
            method=scope["method"],
            path=_route(scope),
            status=status,
            ms=round((time.perf_counter() - started) * 1000, 1),
            request_id=request_id,
            tenant=getattr(scope["state"].get("identity"), "tenant", None),  # none for an open path or a refused caller
        )

    async def _unknown(self, scope: Scope, request_id: str) -> Response | None:
        """The refusal of a caller who is not known, or None."""
        if scope["path"] in self._open_paths:
            return None
        headers = with_token(scope["path"], Headers(scope=scope))
        try:
            scope["state"]["identity"] = await self._authenticator.identify(headers)
        except ServiceError as error:
            return answer_to(error, request_id)
        return None


def _refusal(scope: Scope, request_id: str) -> Response | None:
    """The refusal of a request by its head alone, or None."""
    raw = scope["headers"]
    if len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"]) > MAX_PATH_BYTES:
        code, detail = "uri_too_long", f"found a URI of more than {MAX_PATH_BYTES} bytes"
        return problem(CODES[code], code, detail, request_id)
    if len(raw) > MAX_HEADERS or sum(len(name) + len(value) for name, value in raw) > MAX_HEAD_BYTES:
        code, detail = "headers_too_large", f"found more than {MAX_HEADERS} headers or {MAX_HEAD_BYTES} bytes of them"
        return problem(CODES[code], code, detail, request_id)
    names = [name for name, _ in raw if name in ONCE]
    if len(set(names)) != len(names):  # a proxy in between may have read another one of them
        found = next(name for name in names if names.count(name) > 1).decode()
        detail = f"found the header {found} twice, expected it once. Fix: send one of them"
        return problem(CODES["bad_request"], "bad_request", detail, request_id)
    encoding = Headers(scope=scope).get("content-encoding", "identity").lower()
    if encoding != "identity" and not scope["path"].startswith(UNPACKED_PATHS):
        return answer_to(MediaTypeUnsupported("found a compressed body, expected an uncompressed one"), request_id)
    if encoding not in ("identity", *ENCODINGS):
        expected = f"expected {' or '.join(ENCODINGS)}. Fix: pack it so, or send it as it is"
        return answer_to(MediaTypeUnsupported(f"found a body in another Content-Encoding, {expected}"), request_id)
    return None


def _route(scope: Scope) -> str:
    """The route's template instead of the path, so that the log contains nothing that a client wrote."""
    route = scope.get("route")
    return getattr(route, "path", "-")
