"""A tracer whose spans stay in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from lensmount_service.tracing.tracer import Tracer


@dataclass(frozen=True)
class Recorded:
    """`recorded.tracer` makes the spans, `recorded.spans("decode")` are those that have ended."""

    tracer: Tracer
    memory: Any

    def spans(self, name: str = "") -> list[Any]:
        """All spans or those of a name, in the order of their beginning."""
        found = [span for span in self.memory.get_finished_spans() if name in ("", span.name)]
        return sorted(found, key=lambda span: span.start_time)

    def clear(self) -> None:
        self.memory.clear()


def record() -> Recorded:
    pytest.importorskip("opentelemetry.sdk", reason='needs OpenTelemetry: pip install "lensmount[otel]"')
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from lensmount_service.tracing.otel import OpenTelemetryTracer

    provider, memory = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    return Recorded(OpenTelemetryTracer(provider), memory)


@pytest.fixture
def recorded() -> Recorded:
    return record()
