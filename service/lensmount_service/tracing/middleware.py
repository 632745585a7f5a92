"""One span for each HTTP request, with the names of OpenTelemetry's semantic conventions.

It has the route's template instead of the path and the query, so that a trace contains nothing that a client wrote.
"""

from __future__ import annotations

import time
from typing import Final

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lensmount_service.tracing.span import REQUEST_ID, Span, Value, entered
from lensmount_service.tracing.tracer import NoTracer, Tracer

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
OTHER_METHOD = "_OTHER"  # as the conventions say
CARRIED = ("traceparent", "tracestate")


class TracingMiddleware:
    """Plain ASGI middleware. A probe of health makes no span."""

    def __init__(self, app: ASGIApp, tracer: Tracer, probes: frozenset[str] = frozenset()) -> None:
        self.app = app
        self._tracer = tracer
        self._probes = probes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._probes:
            await self.app(scope, receive, send)
            return
        span = self._tracer.start("server", carrier_of(Headers(scope=scope)))
        status = 0
        failure = ""

        async def send_and_look(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        reading = _Reading(receive, span)
        with entered(span):
            try:
                await self.app(scope, reading if span.recording else receive, send_and_look)
            except BaseException as error:
                failure = type(error).__name__
                raise
            finally:
                if reading.started:
                    span.rest("respond")
                _end(span, scope, status, failure)


class _Reading:
    """`receive`, which notes as `enter` what was before the body was asked for, and as `read` how it arrived."""

    def __init__(self, receive: Receive, span: Span) -> None:
        self._receive = receive
        self._span = span
        self.started = 0.0  # when the body was asked for
        self._bytes = 0
        self._complete = False

    async def __call__(self) -> Message:
        if not self.started:
            self.started = time.perf_counter()
            self._span.rest("enter")
        message = await self._receive()
        if message["type"] == "http.request" and not self._complete:
            self._bytes += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._complete:
                self._span.child("read", self.started, time.perf_counter(), {"http.request.body.size": self._bytes})
        return message


def trace(app: Starlette, tracer: Tracer, probes: frozenset[str] = frozenset()) -> None:
    """Give each request a span, unless the tracer makes none. `app.state.tracer` is for what is not HTTP."""
    app.state.tracer = tracer
    if not isinstance(tracer, NoTracer):
        app.add_middleware(TracingMiddleware, tracer=tracer, probes=probes)


def carrier_of(headers: Headers) -> dict[str, str]:
    """The headers of W3C Trace Context. Two of `traceparent` contradict each other, so neither counts."""
    found = {name: headers.getlist(name) for name in CARRIED}
    if len(found["traceparent"]) != 1:
        return {}
    return {name: ",".join(values) for name, values in found.items() if values}


def _end(span: Span, scope: Scope, status: int, failure: str) -> None:
    method = scope["method"] if scope["method"] in METHODS else OTHER_METHOD
    route: str | None = getattr(scope.get("route"), "path", None)
    attributes: dict[str, Value] = {"http.request.method": method, "url.scheme": scope.get("scheme", "http")}
    if route is not None:
        attributes["http.route"] = route
    if status:
        attributes["http.response.status_code"] = status
    request_id = scope.get("state", {}).get("request_id")
    if request_id is not None:
        attributes[REQUEST_ID] = request_id
    told = "HTTP" if method == OTHER_METHOD else method
    error = failure or (str(status) if status >= 500 else "")
    span.end(told if route is None else f"{told} {route}", attributes, error)
