"""Spans by OpenTelemetry, sent over OTLP. Its standard variables (OTEL_...) say where to, how many and as what.

A request's children are made when the request is over, so that their cost is not part of its time.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Literal

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind, Status, StatusCode, format_span_id, format_trace_id, set_span_in_context
from opentelemetry.trace import Tracer as OtelTracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lensmount_client._version import __version__
from lensmount_service.tracing.span import Attributes, Span

log = structlog.get_logger(__name__)

MOST_CHILDREN = 128  # of one span; a request of many images and adapters has a number of further ones instead
LEFT_OUT = "lensmount.children_left_out"
_KINDS = {"server": SpanKind.SERVER, "consumer": SpanKind.CONSUMER}
_PROPAGATOR = TraceContextTextMapPropagator()


class OpenTelemetryTracer:
    """`OpenTelemetryTracer(provider)`: a Tracer whose spans go to the processors of the provider."""

    def __init__(self, provider: TracerProvider, exporter: SpanExporter | None = None) -> None:
        """`exporter` is told to give up if `close` has waited long enough."""
        self._provider = provider
        self._exporter = exporter
        self._tracer = provider.get_tracer("lensmount", __version__)

    @classmethod
    def of_environment(cls, service: str, environ: Mapping[str, str] = os.environ) -> OpenTelemetryTracer:
        """As the variables of OpenTelemetry say. `service` is the name of the service unless they name one.

        Raises ValueError for sizes that make no sense.
        """
        named = "OTEL_SERVICE_NAME" in environ or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        attributes = {"service.version": __version__} | ({} if named else {"service.name": service})
        provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
        exporter = Announced(OTLPSpanExporter())
        provider.add_span_processor(BatchSpanProcessor(exporter))
        # From now on it would log each batch that is not taken, and malformed headers of clients.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
        return cls(provider, exporter)

    def start(self, kind: Literal["server", "consumer"], carrier: Mapping[str, str]) -> Span:
        above = _PROPAGATOR.extract(carrier, Context())
        started = time.perf_counter()
        epoch_ns = time.time_ns() - round(started * 1e9)  # so that all times of a span are of one clock
        span = self._tracer.start_span(kind, above, _KINDS[kind], start_time=epoch_ns + round(started * 1e9))
        return _Recorded(self._tracer, span, started, epoch_ns)

    def close(self, timeout_s: float) -> None:
        ending = threading.Thread(target=self._provider.shutdown, name="lensmount-traces", daemon=True)
        ending.start()
        ending.join(timeout_s)
        if ending.is_alive() and self._exporter is not None:
            self._exporter.shutdown()
            log.warning("traces were lost at the end, because nobody took them in time", seconds=timeout_s)


class _Recorded:
    """A span of OpenTelemetry, and the children to make when it ends."""

    def __init__(self, tracer: OtelTracer, span: OtelSpan, started: float, epoch_ns: int) -> None:
        context = span.get_span_context()
        self.recording = span.is_recording()
        self.trace_id = format_trace_id(context.trace_id)
        self.span_id = format_span_id(context.span_id)
        self.traceparent = f"00-{self.trace_id}-{self.span_id}-{context.trace_flags:02x}"
        self._tracer, self._span = tracer, span
        self._started, self._epoch_ns = started, epoch_ns
        self._children: list[tuple[str, float, float, Attributes]] = []
        self._left_out = 0

    def child(self, name: str, started: float, ended: float, attributes: Attributes) -> None:
        if len(self._children) < MOST_CHILDREN:
            self._children.append((name, started, ended, attributes))
        else:
            self._left_out += 1

    def rest(self, name: str) -> None:
        since = max((ended for _, _, ended, _ in self._children), default=self._started)
        self._children.append((name, since, time.perf_counter(), {}))

    def end(self, name: str, attributes: Attributes, error: str = "") -> None:
        now = time.perf_counter()
        if not self.recording:
            self._span.end()
            return
        above = set_span_in_context(self._span, Context())
        for part, started, ended, told in self._children:
            child = self._tracer.start_span(part, above, attributes=told, start_time=self._ns(started))
            child.end(self._ns(ended))
        self._span.update_name(name)
        self._span.set_attributes({**attributes, LEFT_OUT: self._left_out} if self._left_out else attributes)
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(self._ns(now))

    def _ns(self, reading: float) -> int:
        return self._epoch_ns + round(reading * 1e9)


class Announced(SpanExporter):
    """An exporter that fails nobody: it says once that its spans are not taken, and once that they are again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        reason = "the collector did not take them"
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # the boundary of a library: a trace must not end its thread
            result, reason = SpanExportResult.FAILURE, f"{type(error).__name__}: {error}"
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failed:
            log.warning(
                "traces are lost until they can be sent again",
                reason=reason,
                fix="check OTEL_EXPORTER_OTLP_ENDPOINT: a collector that takes OTLP over HTTP, usually at port 4318",
            )
        elif self._failed and not failed:
            log.info("traces are sent again")
        self._failed = failed
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)
