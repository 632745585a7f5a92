"""Spans of OpenTelemetry: their times, their number, and exporters that fail nobody."""

from __future__ import annotations

import http.server
import logging
import random
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason='needs OpenTelemetry: pip install "lensmount[otel]"')

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from structlog.testing import capture_logs

from lensmount_service import logs
from lensmount_service.settings import Settings
from lensmount_service.tracing.otel import LEFT_OUT, MOST_CHILDREN, Announced, OpenTelemetryTracer

if TYPE_CHECKING:
    from tests.service.recorded import Recorded

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    logs.configure(Settings(log_level="info"))
    yield
    logs.configure(Settings(log_level="error"))  # as for all other tests
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)


def test_children_have_the_times_that_they_were_told(recorded: Recorded) -> None:
    before = time.time_ns()
    span = recorded.tracer.start("server", {})
    started = time.perf_counter()
    span.child("decode", started, started + 0.25, {"lensmount.images": 3})
    span.end("POST /predict", {"http.route": "/predict"})

    child, server = recorded.spans("decode")[0], recorded.spans("POST /predict")[0]
    assert child.end_time - child.start_time == pytest.approx(0.25e9, abs=1e3)
    assert before <= server.start_time <= child.start_time <= server.end_time <= time.time_ns()
    assert child.parent.span_id == server.context.span_id
    assert (dict(child.attributes), dict(server.attributes)) == (
        {"lensmount.images": 3},
        {"http.route": "/predict"},
    )


def test_a_span_says_how_it_is_named_to_other_processes(recorded: Recorded) -> None:
    span = recorded.tracer.start("server", {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"})
    assert span.recording
    assert span.trace_id == TRACE
    assert span.traceparent.startswith(f"00-{TRACE}-{span.span_id}-")
    assert int(span.traceparent[-2:], 16) & 1  # sampled
    below = recorded.tracer.start("consumer", {"traceparent": span.traceparent})
    assert (below.trace_id, below.recording) == (TRACE, True)


def test_a_trace_that_is_not_sampled_is_named_and_not_recorded(recorded: Recorded) -> None:
    span = recorded.tracer.start("server", {"traceparent": f"00-{TRACE}-{PARENT}-00"})
    span.child("decode", 0.0, 1.0, {})
    span.end("GET /limits", {})
    assert (span.recording, span.trace_id, int(span.traceparent[-2:], 16) & 1) == (False, TRACE, 0)
    assert recorded.spans() == []


def test_the_number_of_children_is_bounded_and_says_what_was_left_out(recorded: Recorded) -> None:
    span = recorded.tracer.start("server", {})
    for _ in range(MOST_CHILDREN + 7):
        span.child("branch", 0.0, 1.0, {})
    span.end("POST /predict", {})
    assert len(recorded.spans("branch")) == MOST_CHILDREN
    assert recorded.spans("POST /predict")[0].attributes[LEFT_OUT] == 7


@pytest.mark.parametrize(("error", "status"), [("", "UNSET"), ("503", "ERROR")])
def test_only_a_failure_of_the_server_is_an_error(recorded: Recorded, error: str, status: str) -> None:
    recorded.tracer.start("server", {}).end("GET /limits", {}, error)
    (span,) = recorded.spans()
    assert span.status.status_code.name == status
    assert span.attributes.get("error.type", "") == error


class Deaf(SpanExporter):
    """Takes what it is told to take."""

    def __init__(self, *taken: Any) -> None:
        self.taken = list(taken)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        answer = self.taken.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SpanExportResult.SUCCESS if answer else SpanExportResult.FAILURE

    def shutdown(self) -> None: ...


def test_a_collector_that_takes_nothing_is_one_warning_and_one_line_when_it_is_back() -> None:
    exporter = Announced(Deaf(False, ValueError("no such host"), False, True, True, False))
    with capture_logs() as lines:
        for _ in range(6):
            exporter.export([])
    assert [line["event"] for line in lines] == [
        "traces are lost until they can be sent again",
        "traces are sent again",
        "traces are lost until they can be sent again",
    ]
    assert "4318" in lines[0]["fix"]


class Collector:
    """A server that takes OTLP over HTTP; it answers after `event`, if there is one."""

    def __init__(self, event: threading.Event | None = None) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        own = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if event is not None:
                    event.wait(30)
                own.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def of_environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> OpenTelemetryTracer:
    for name, value in {"OTEL_BSP_SCHEDULE_DELAY": "60000", **variables}.items():
        monkeypatch.setenv(name, value)
    return OpenTelemetryTracer.of_environment("lensmount")


@pytest.mark.parametrize(("variables", "service"), [({}, "lensmount"), ({"OTEL_SERVICE_NAME": "lab"}, "lab")])
def test_what_has_ended_is_sent_over_otlp_when_the_process_ends(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], service: str
) -> None:
    collector = Collector()
    try:
        tracer = of_environment(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **variables)
        tracer.start("server", {}).end("GET /limits", {})
        tracer.close(10.0)
    finally:
        collector.close()
    (request,) = collector.requests
    (resource,) = request.resource_spans
    told = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert told["service.name"] == service
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["GET /limits"]


def test_the_standard_sampler_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = of_environment(
        monkeypatch,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        OTEL_TRACES_SAMPLER="parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0",
    )
    assert not tracer.start("server", {}).recording
    assert tracer.start("server", {"traceparent": f"00-{TRACE}-{PARENT}-01"}).recording
    tracer.close(0.0)


def test_a_collector_that_is_away_or_hangs_delays_the_end_by_a_bound_and_holds_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = threading.Event()
    hanging = Collector(answer)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        away = f"http://127.0.0.1:{closed.getsockname()[1]}"
    try:
        for url in (away, hanging.url):
            tracer = of_environment(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_BSP_MAX_QUEUE_SIZE="600")
            started = time.monotonic()
            for _ in range(3000):
                tracer.start("server", {}).end("GET /limits", {})
            with capture_logs() as lines:
                tracer.close(0.2)
            assert time.monotonic() - started < 10
            assert [line["event"] for line in lines if "at the end" in line["event"]]
    finally:
        answer.set()
        hanging.close()


def test_the_rest_begins_where_the_last_child_ended(recorded: Recorded) -> None:
    span = recorded.tracer.start("server", {})
    started = time.perf_counter()
    span.child("head", started, started + 2e-6, {})
    span.child("queue", started, started + 1e-6, {})
    span.rest("respond")
    span.end("POST /predict", {})

    (head,), (rest,), (server,) = (recorded.spans(name) for name in ("head", "respond", "POST /predict"))
    assert head.end_time == rest.start_time <= rest.end_time <= server.end_time


def test_the_rest_of_a_span_without_children_is_all_of_it(recorded: Recorded) -> None:
    span = recorded.tracer.start("server", {})
    span.rest("enter")
    span.end("GET /limits", {})
    (enter,), (server,) = recorded.spans("enter"), recorded.spans("GET /limits")
    assert enter.start_time == server.start_time


def test_no_header_of_a_client_hinders_a_request(recorded: Recorded) -> None:
    dice = random.Random(0)
    parts = ["00", "ff", TRACE, PARENT, "01", "-", ",", "=", ";", "\t", "\x00", "\xff", "vendor", "@", "", "x" * 300]
    for _ in range(1000):
        carrier = {name: "".join(dice.choices(parts, k=dice.randrange(9))) for name in ("traceparent", "tracestate")}
        span = recorded.tracer.start("server", carrier)
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", span.traceparent), carrier
