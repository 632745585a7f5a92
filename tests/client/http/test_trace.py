"""A request belongs to the caller's span, if its program uses OpenTelemetry, or to that of the environment."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from lensmount_client import AsyncClient, Client
from lensmount_client._http.trace import trace_headers

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def active(*, valid: bool = True, state: str = "") -> dict[str, Any]:
    """The modules of a program with an active span, as OpenTelemetry's API shows it."""
    context = SimpleNamespace(
        is_valid=valid,
        trace_id=0x4BF92F3577B34DA6A3CE929D0E0E4736,
        span_id=0x00F067AA0BA902B7,
        trace_flags=1,
        trace_state=SimpleNamespace(to_header=lambda: state),
    )
    span = SimpleNamespace(get_span_context=lambda: context)
    return {"opentelemetry.trace": SimpleNamespace(get_current_span=lambda: span)}


def test_the_active_span_of_the_caller_is_sent() -> None:
    assert trace_headers({}, active()) == {"traceparent": PARENT}
    assert trace_headers({"TRACEPARENT": "other"}, active(state="a=1")) == {"traceparent": PARENT, "tracestate": "a=1"}


def test_without_an_active_span_the_environment_names_the_parent() -> None:
    environ = {"TRACEPARENT": PARENT, "TRACESTATE": "a=1"}
    assert trace_headers(environ, {}) == {"traceparent": PARENT, "tracestate": "a=1"}
    assert trace_headers(environ, active(valid=False)) == {"traceparent": PARENT, "tracestate": "a=1"}
    assert trace_headers(environ, {"opentelemetry.trace": SimpleNamespace()}) != {}  # being imported in another thread
    assert trace_headers({}, {}) == {}


@pytest.mark.parametrize(
    "value",
    ["", "00", PARENT[:-1], PARENT + "\r\nX: 1", "ff" + PARENT[2:], "00-" + "0" * 32 + PARENT[35:], PARENT.upper()],
)
def test_a_malformed_value_of_the_environment_is_not_sent(value: str) -> None:
    assert trace_headers({"TRACEPARENT": value, "TRACESTATE": "a=1"}, {}) == {}


def test_a_line_break_in_the_state_of_the_environment_is_not_sent() -> None:
    assert trace_headers({"TRACEPARENT": PARENT, "TRACESTATE": "a=1\r\nX: 1"}, {}) == {"traceparent": PARENT}


def _limits(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"traceparent": request.headers.get("traceparent")})


def test_both_clients_send_it_with_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    import anyio

    monkeypatch.setenv("TRACEPARENT", PARENT)
    with Client(transport=httpx.MockTransport(_limits)) as client:
        assert client.limits() == {"traceparent": PARENT}
        monkeypatch.delenv("TRACEPARENT")
        assert client.limits() == {"traceparent": None}

    async def asynchronous() -> Any:
        async with AsyncClient(transport=httpx.MockTransport(_limits)) as client:
            return await client.limits()

    monkeypatch.setenv("TRACEPARENT", PARENT)
    assert anyio.run(asynchronous) == {"traceparent": PARENT}


def test_the_client_never_imports_opentelemetry() -> None:
    code = "import sys, lensmount_client; lensmount_client.Client; print([n for n in sys.modules if 'opentel' in n])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout.strip()) == (0, "[]"), ended.stderr


def test_the_header_is_what_opentelemetry_itself_writes() -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = trace.SpanContext(7, 9, is_remote=False, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        expected: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(expected)
        assert trace_headers() == expected
