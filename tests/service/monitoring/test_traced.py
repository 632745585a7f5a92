"""One trace for each prediction: its spans lie inside the server's, and say where the time went."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from tests.service.recorded import Recorded, record

from lensmount_service import logs
from lensmount_service.settings import Settings
from lensmount_service.tracing.middleware import trace

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def shared_recorded() -> Recorded:
    return record()


@pytest.fixture(scope="module")
def traced(make_shared_parts: MakeParts, make_adapter: MakeAdapter, shared_recorded: Recorded) -> Iterator[TestClient]:
    """A server with `cells` and `tiles` that records its traces."""
    with make_shared_parts() as parts:
        trace(parts.app, shared_recorded.tracer)
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            for seed, (name, labels) in enumerate({"cells": ("a", "b"), "tiles": ("x", "y", "z")}.items(), start=1):
                assert client.put(f"/adapters/{name}", content=make_adapter(seed, labels)).status_code == 201
            yield client


@pytest.fixture
def spans(shared_recorded: Recorded) -> Recorded:
    shared_recorded.clear()
    return shared_recorded


def test_a_prediction_is_one_trace_whose_children_say_where_its_time_went(
    traced: TestClient, spans: Recorded, make_png: MakePng
) -> None:
    answer = traced.post("/predict?adapter=cells", content=make_png(1)).json()

    (server,) = (span for span in spans.spans() if span.parent is None)
    assert server.name == "POST /predict"
    assert server.kind.name == "SERVER"
    assert dict(server.attributes) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "lensmount.request_id": answer["request_id"],
    }
    children = [span for span in spans.spans() if span is not server]
    assert {span.name for span in children} - {"swap", "prepare"} == {
        *("enter", "read", "decode", "queue", "trunk", "branch", "head", "respond")
    }
    assert {(span.context.trace_id, span.parent.span_id) for span in children} == {
        (server.context.trace_id, server.context.span_id)
    }
    for span in children:
        assert server.start_time <= span.start_time <= span.end_time <= server.end_time, span.name
    (branch,) = spans.spans("branch")
    told = dict(branch.attributes)
    assert told.pop("lensmount.branch.mode") in ("hot", "merged", "mixed", "whole")
    assert told.pop("lensmount.adapter.tier") in ("hot", "merged", "memory")
    assert told == {
        "lensmount.adapter.name": "cells",
        "lensmount.adapter.digest": answer["adapter"]["digest"],
        "lensmount.batch.size": 1,
    }


def test_the_children_cover_the_server_s_time(traced: TestClient, spans: Recorded, make_png: MakePng) -> None:
    shares = []  # of the time of a request that its children cover; other work on the machine only lowers it
    for seed in range(5):
        spans.clear()
        timing = traced.post("/predict?adapter=cells", content=make_png(seed)).json()["timing_ms"]
        (server,) = (span for span in spans.spans() if span.parent is None)
        covered, end = 0, server.start_time
        for span in spans.spans():
            if span is not server:
                covered += max(0, span.end_time - max(span.start_time, end))
                end = max(end, span.end_time)
        shares.append(covered / (server.end_time - server.start_time))
        assert server.end_time - server.start_time >= 0.99e6 * timing["total"]
        (decode,) = spans.spans("decode")
        assert decode.end_time - decode.start_time >= 0.99e6 * timing["decode"]
    assert max(shares) >= 0.9


def test_images_of_one_batch_and_adapters_of_one_stage_share_a_span(
    traced: TestClient, spans: Recorded, make_png: MakePng
) -> None:
    files = [("file", (f"secret-{n}.png", make_png(n), "image/png")) for n in range(3)]
    results = traced.post("/predict?adapter=cells,tiles", files=files).json()["results"]

    digests = {result["adapter"]["digest"] for result in results}
    assert [span.attributes["lensmount.images"] for span in spans.spans("decode")] == [3]
    for name in ("queue", "trunk", "branch", "head"):
        found = spans.spans(name)
        assert 1 <= len(found) <= 6, name
        assert {
            digest for span in found for digest in span.attributes["lensmount.adapter.digest"].split(",")
        } == digests
    whole = [span for span in spans.spans("trunk") if span.attributes["lensmount.batch.size"] == 6]
    assert [span.attributes["lensmount.adapter.name"] for span in whole] in ([], ["cells,tiles"])


def test_nothing_that_a_client_wrote_is_in_a_trace(traced: TestClient, spans: Recorded, make_png: MakePng) -> None:
    files = {"file": ("secret.png", make_png(1), "image/png")}
    traced.post("/predict?adapter=cells&top_k=1", files=files, headers={"User-Agent": "secret", "X-Secret": "secret"})
    traced.post("/predict?adapter=secret", content=make_png(1))
    traced.get("/adapters/secret", headers={"traceparent": "secret", "tracestate": "secret"})
    traced.request("SECRET", "/secret")

    every = spans.spans()
    assert {span.name for span in every if span.parent is None} == {"POST /predict", "GET /adapters/{name}", "HTTP"}
    assert "secret" not in json.dumps([(span.name, dict(span.attributes)) for span in every]).lower()


def test_a_request_is_a_child_of_the_caller_s_span(traced: TestClient, spans: Recorded, make_png: MakePng) -> None:
    traced.post("/predict?adapter=cells", content=make_png(1), headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})

    assert {f"{span.context.trace_id:032x}" for span in spans.spans()} == {TRACE}
    (server,) = spans.spans("POST /predict")
    assert f"{server.parent.span_id:016x}" == PARENT


def test_a_trace_that_the_caller_does_not_record_is_not_recorded_here(
    traced: TestClient, spans: Recorded, make_png: MakePng
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    assert traced.post("/predict?adapter=cells", content=make_png(1), headers=headers).status_code == 200
    assert spans.spans() == []


MALFORMED = [
    "",
    "00",
    f"00-{TRACE}-{PARENT}",
    f"00-{TRACE}-{PARENT}-1",
    f"00-{TRACE.upper()}-{PARENT}-01",
    f"00-{'0' * 32}-{PARENT}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"ff-{TRACE}-{PARENT}-01",
    f"00-{TRACE}-{PARENT}-01-more",
    f"00-{TRACE}-{PARENT}-01" + "x" * 4000,
    "\u00e4\u00f6",
]


@pytest.mark.parametrize("header", MALFORMED)
def test_a_malformed_traceparent_begins_a_new_trace(traced: TestClient, spans: Recorded, header: str) -> None:
    sent = [(b"traceparent", header.encode("latin-1")), (b"tracestate", b"=,;==")]
    assert traced.get("/limits", headers=sent).status_code == 200

    (server,) = spans.spans()
    assert server.parent is None
    assert f"{server.context.trace_id:032x}" != TRACE


def test_two_traceparents_contradict_each_other_so_neither_counts(traced: TestClient, spans: Recorded) -> None:
    header = (b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())
    assert traced.get("/limits", headers=[header, header]).status_code == 200
    assert [span.parent for span in spans.spans()] == [None]


def test_the_request_id_ties_answer_log_line_and_trace(
    traced: TestClient, spans: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(Settings(log_level="info", log_format="json"))
    try:
        problem = traced.get("/adapters/unknown").json()
    finally:
        logs.configure(Settings(log_level="error"))

    captured = capsys.readouterr()
    (line,) = (json.loads(line) for line in (captured.out + captured.err).splitlines())
    (server,) = spans.spans()
    assert problem["request_id"] == line["request_id"] == server.attributes["lensmount.request_id"]
    assert line["trace_id"] == f"{server.context.trace_id:032x}"
    assert line["span_id"] == f"{server.context.span_id:016x}"
    assert line["request_id"] != line["trace_id"]  # a trace may have many requests


def test_an_inference_over_the_open_protocol_has_the_same_spans(
    traced: TestClient, spans: Recorded, make_png: MakePng
) -> None:
    image: dict[str, Any] = {"name": "image", "datatype": "BYTES", "shape": [1]}
    image["data"] = [base64.b64encode(make_png(1)).decode()]
    assert traced.post("/v2/models/cells/infer", json={"inputs": [image]}).status_code == 200

    (server,) = (span for span in spans.spans() if span.parent is None)
    assert server.name == "POST /v2/models/{name}/infer"
    assert {"read", "decode", "queue", "branch", "head"} <= {span.name for span in spans.spans()}


def test_an_explanation_has_the_spans_of_its_batch(traced: TestClient, spans: Recorded, make_png: MakePng) -> None:
    assert traced.post("/explain?adapter=cells", content=make_png(1)).status_code == 200
    assert [span.name for span in spans.spans() if span.parent is None] == ["POST /explain"]
    assert [len(spans.spans(name)) for name in ("decode", "explain")] == [1, 1]


def test_an_adapter_that_is_read_from_its_file_shows_how_long_that_took(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, recorded: Recorded
) -> None:
    with make_parts(cache_bytes=0) as parts:
        trace(parts.app, recorded.tracer)
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            client.put("/adapters/cells", content=make_adapter(1, ("a", "b")))
            client.put("/adapters/tiles", content=make_adapter(2, ("x", "y", "z")))
            recorded.clear()
            answer = client.post("/predict?adapter=cells", content=make_png(1)).json()

    admitted = [span.attributes["lensmount.adapter.digest"] for span in recorded.spans("admit")]
    assert admitted == [answer["adapter"]["digest"]]
