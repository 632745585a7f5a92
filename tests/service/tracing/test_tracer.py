"""Without tracing, the tracer makes no spans."""

from __future__ import annotations

from lensmount_service.tracing.span import NO_SPAN
from lensmount_service.tracing.tracer import NoTracer, Tracer


def test_it_makes_no_spans_and_closes_at_once() -> None:
    tracer: Tracer = NoTracer()
    assert tracer.start("server", {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}) is NO_SPAN
    tracer.close(0.0)
