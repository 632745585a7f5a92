"""A span for each HTTP request, with the names of the conventions; monitoring/test_traced.py has predictions."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.service.recorded import Recorded

from lensmount_service.tracing.middleware import carrier_of, trace
from lensmount_service.tracing.span import current
from lensmount_service.tracing.tracer import NoTracer


async def _item(request: Request) -> PlainTextResponse:
    await request.body()
    return PlainTextResponse(current().trace_id)


async def _busy(request: Request) -> PlainTextResponse:
    return PlainTextResponse("busy", 503)


async def _broken(request: Request) -> PlainTextResponse:
    raise RuntimeError("broken")


def _app() -> Starlette:
    return Starlette(
        routes=[
            Route("/items/{name}", _item, methods=["GET", "POST"]),
            Route("/busy", _busy),
            Route("/broken", _broken),
            Route("/health", _busy),
        ]
    )


@pytest.fixture
def client(recorded: Recorded) -> TestClient:
    app = _app()
    trace(app, recorded.tracer, frozenset({"/health"}))
    return TestClient(app, raise_server_exceptions=False)


def test_a_span_has_the_route_instead_of_the_path(client: TestClient, recorded: Recorded) -> None:
    trace_id = client.get("/items/secret?query=secret").text
    (span,) = (span for span in recorded.spans() if span.parent is None)
    assert (span.name, f"{span.context.trace_id:032x}") == ("GET /items/{name}", trace_id)
    assert dict(span.attributes) == {
        "http.request.method": "GET",
        "http.route": "/items/{name}",
        "http.response.status_code": 200,
        "url.scheme": "http",
    }


def test_the_time_in_which_a_body_arrives_is_a_child_with_its_size(client: TestClient, recorded: Recorded) -> None:
    client.post("/items/a", content=iter([b"ab", b"cde"]))
    enter, read, respond = recorded.spans("enter")[0], recorded.spans("read")[0], recorded.spans("respond")[0]
    assert enter.start_time <= enter.end_time <= respond.start_time == read.end_time
    assert read.start_time <= enter.end_time  # both begin and end when the body is asked for
    assert dict(read.attributes) == {"http.request.body.size": 5}


@pytest.mark.parametrize(
    ("method", "path", "name", "error"),
    [
        ("GET", "/busy", "GET /busy", "503"),
        ("GET", "/broken", "GET /broken", "RuntimeError"),
        ("GET", "/nothing", "GET", None),
        ("SECRET", "/items/a", "HTTP /items/{name}", None),
    ],
)
def test_failures_of_the_server_are_errors_and_those_of_clients_are_not(
    client: TestClient, recorded: Recorded, method: str, path: str, name: str, error: str | None
) -> None:
    client.request(method, path)
    (span,) = (span for span in recorded.spans() if span.parent is None)
    assert (span.name, span.attributes.get("error.type")) == (name, error)
    assert span.attributes["http.request.method"] == ("GET" if method == "GET" else "_OTHER")


def test_a_probe_makes_no_span(client: TestClient, recorded: Recorded) -> None:
    client.get("/health")
    assert recorded.spans() == []


def test_without_tracing_the_app_has_no_further_middleware() -> None:
    app = _app()
    trace(app, NoTracer())
    assert app.user_middleware == []
    assert isinstance(app.state.tracer, NoTracer)


def test_the_context_is_carried_by_two_headers() -> None:
    raw = [(b"traceparent", b"00-1"), (b"tracestate", b"a=1"), (b"tracestate", b"b=2"), (b"cookie", b"secret")]
    assert carrier_of(Headers(raw=raw)) == {"traceparent": "00-1", "tracestate": "a=1,b=2"}
    assert carrier_of(Headers(raw=[*raw, (b"traceparent", b"00-2")])) == {}
    assert carrier_of(Headers()) == {}
