"""Runs before every route: request id, limits on the request head, who calls. Denies by default."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lensmount_service.access.authenticator import Authenticator
from lensmount_service.errors import MediaTypeUnsupported, ServiceError, UriTooLong, HeadersTooLarge
from lensmount_service.web.problems import problem_of

log = structlog.get_logger(__name__)

MAX_HEADERS = 64
MAX_HEAD_BYTES = 16 * 1024
MAX_PATH_BYTES = 4096
_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


class AccessMiddleware:
    """Plain ASGI middleware that admits or refuses a request.

    Without a token only loopback may call. Host and Origin must then be loopback names, so that a web page in a user's
    browser cannot reach the server through DNS rebinding. `open_paths` are served without a token.
    """

    def __init__(self, app: ASGIApp, token: str | None, open_paths: Collection[str]) -> None:
        self.app = app
        self._token = token
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
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, send_with_id)
        else:
            code, detail = refusal
            headers = {"WWW-Authenticate": "Bearer"} if CODES[code] == 401 else {}
            await problem(CODES[code], code, detail, request_id, headers)(scope, receive, send_with_id)
        log.info(
            "request",
            method=scope["method"],
            path=_route(scope),
            status=status,
            ms=round((time.perf_counter() - started) * 1000, 1),
            request_id=request_id,
        )

    def _refusal(self, scope: Scope) -> tuple[str, str] | None:
        """(code, detail), or None if the request may pass."""
        raw = scope["headers"]
        if len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"]) > MAX_PATH_BYTES:
            return "uri_too_long", f"found a URI of more than {MAX_PATH_BYTES} bytes"
        if len(raw) > MAX_HEADERS or sum(len(name) + len(value) for name, value in raw) > MAX_HEAD_BYTES:
            return "headers_too_large", f"found more than {MAX_HEADERS} headers or {MAX_HEAD_BYTES} bytes of them"
        headers = Headers(scope=scope)
        if headers.get("content-encoding", "identity") != "identity":
            return "unsupported_content_encoding", "found a compressed body, expected an uncompressed one"
        if scope["path"] in self._open_paths:
            return None
        if self._token is None:
            return _foreign(headers)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(token.strip().encode(), self._token.encode()):
            return "unauthorized", "found no valid token, expected the header Authorization: Bearer TOKEN"
        return None


def _foreign(headers: Headers) -> tuple[str, str] | None:
    host = headers.get("host", "")
    if _without_port(host) not in _LOOPBACK_HOSTS:
        return "host_not_allowed", "found a Host that is not loopback. Fix: set a token to serve other names"
    origin = headers.get("origin")
    if origin is not None and _without_port(origin.partition("://")[2]) not in _LOOPBACK_HOSTS:
        return "origin_not_allowed", "found a request from a page of another site. Fix: set a token"
    return None


def _without_port(host: str) -> str:
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host


def _route(scope: Scope) -> str:
    """The route's template instead of the path, so that the log contains nothing that a client wrote."""
    route = scope.get("route")
    return getattr(route, "path", "-")
