"""What makes spans: nothing by default, or OpenTelemetry if it is configured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from lensmount_service.tracing.span import NO_SPAN, Span


class Tracer(Protocol):
    """`span = tracer.start("server", {"traceparent": "00-..."})`, then `span.end("POST /predict", {...})`."""

    def start(self, kind: Literal["server", "consumer"], carrier: Mapping[str, str]) -> Span:
        """A span that begins now, below the one that `traceparent` and `tracestate` name.

        A malformed `traceparent` is ignored: the span is the first of a new trace then.
        """
        ...

    def close(self, timeout_s: float) -> None:
        """Send the spans that have ended, for at most this long."""
        ...


class NoTracer:
    """Makes no spans."""

    def start(self, kind: Literal["server", "consumer"], carrier: Mapping[str, str]) -> Span:
        return NO_SPAN

    def close(self, timeout_s: float) -> None:
        """Nothing was kept."""
