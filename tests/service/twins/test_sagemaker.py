"""What SageMaker sends to a container, and what it passes back to its client."""

from __future__ import annotations

import base64
import csv
import io
import json
from typing import TYPE_CHECKING

import httpx
import pytest

from lensmount_service.access.custom_attributes import HEADER
from lensmount_service.build import Parts
from lensmount_service.twins.sagemaker import TARGET_MODEL

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts, MakePng
    from tests.service.twins.conftest import Predict


def test_a_ping_is_empty_and_needs_no_token(api: httpx.Client) -> None:
    answer = api.get("/ping", headers={"Authorization": "Bearer nobody"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert api.post("/ping").status_code == 405


def test_a_ping_says_503_while_no_invocation_is_accepted(make_parts: MakeParts) -> None:
    from fastapi.testclient import TestClient

    with make_parts() as parts:
        answer = TestClient(parts.app, base_url="http://127.0.0.1").get("/ping")  # the engine has not started
    assert (answer.status_code, answer.json()["code"]) == (503, "draining")


@pytest.mark.parametrize(
    "headers",
    [
        {TARGET_MODEL: "cells@1"},
        {HEADER: "adapter=cells@1"},
        {HEADER: "trace=c000b4f9, adapter = cells@1 ,adapterx=tiles"},
        {HEADER: "adapter=cells@1", TARGET_MODEL: "cells@1"},
    ],
    ids=str,
)
def test_a_header_names_the_adapter_and_the_answer_says_which_version_answered(
    headers: dict[str, str], api: httpx.Client, predicted: Predict, make_png: MakePng
) -> None:
    answer = api.post("/invocations", content=make_png(1), headers={"Content-Type": "application/x-image", **headers})
    assert answer.json() == predicted("cells@1", make_png(1))
    version = api.get("/adapters/cells/versions/1").json()
    about = dict(pair.split("=") for pair in answer.headers[HEADER].split(","))
    assert about == {
        "adapter": "cells@1",
        "digest": version["digest"],
        "request_id": answer.headers["X-Request-Id"],
    }


def test_the_decision_of_an_adapter_that_has_trust_is_passed_back(api: httpx.Client, make_png: MakePng) -> None:
    trust = api.post("/predict?adapter=sure", content=make_png()).json()["trust"]
    answer = api.post("/invocations?adapter=sure", content=make_png())
    assert f",decision={trust['decision']}" in answer.headers[HEADER]


def test_accept_chooses_json_lines_or_csv(api: httpx.Client, predicted: Predict, make_png: MakePng) -> None:
    image = make_png(2)
    body = {"inputs": base64.b64encode(image).decode(), "parameters": {"top_k": 2}}
    expected = predicted("tiles", image)[:2]

    def asked(accept: str) -> httpx.Response:
        return api.post("/invocations?adapter=tiles", json=body, headers={"Accept": accept})

    for accept in ("application/json", "*/*", "application/*", "text/csv;q=0.5, application/json"):
        assert asked(accept).json() == expected
    lines = asked("application/jsonlines")
    assert lines.headers["Content-Type"].startswith("application/jsonlines")
    assert [json.loads(line) for line in lines.text.splitlines()] == expected
    table = asked("text/csv")
    rows = [{"label": label, "score": float(score)} for label, score in csv.reader(io.StringIO(table.text))]
    assert (table.headers["Content-Type"].partition(";")[0], rows) == ("text/csv", expected)
    refused = asked("image/png")
    assert (refused.status_code, refused.json()["code"]) == (406, "not_acceptable")
    assert "application/json or application/jsonlines or text/csv: tiles gives labels" in refused.json()["detail"]


def test_without_an_adapter_or_with_two_the_advice_works(
    api: httpx.Client, predicted: Predict, make_png: MakePng
) -> None:
    for headers, query in (
        ({}, ""),
        ({HEADER: "adapter="}, ""),
        ({TARGET_MODEL: "cells"}, "?adapter=tiles"),
    ):
        refused = api.post(f"/invocations{query}", content=make_png(), headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
        advised = refused.json()["detail"].partition("Fix: send ")[2]
        name, _, value = advised.partition(", or ")[0].partition(": ")
        answer = api.post("/invocations", content=make_png(), headers={name: value.replace("NAME", "tiles")})
        assert answer.json() == predicted("tiles", make_png())


def test_what_is_refused_has_the_code_of_predict(api: httpx.Client, make_png: MakePng) -> None:
    for adapter in ("nothing", "cells@9", "cells:nobody", "Cells", "cells,tiles", "../cells"):
        answer = api.post("/invocations", content=make_png(), headers={TARGET_MODEL: adapter})
        alone = adapter if "," not in adapter else "cells,"
        expected = api.post("/predict", params={"adapter": alone}, content=make_png())
        assert answer.status_code == expected.status_code, adapter
    bad = api.post("/invocations?adapter=cells", content=b"no image")
    assert (bad.status_code, bad.json()["code"]) == (415, "unsupported_image_format")


def test_an_invocation_is_not_a_write_in_the_audit_log(parts: Parts, api: httpx.Client, make_png: MakePng) -> None:
    api.post("/invocations?adapter=cells", content=make_png())
    api.post("/hf/cells", content=make_png())
    parts.app.state.audit.flush()
    actions = {record["action"] for record in api.get("/audit?limit=1000").json()["records"]}
    assert "PUT /adapters/{name}" in actions
    assert not any("invocations" in action or "/hf/" in action for action in actions)


def test_a_token_among_the_attributes_says_who_calls(parts: Parts, api: httpx.Client, make_png: MakePng) -> None:
    """The last test of this module: after the first token, callers need one."""
    tokens = parts.app.state.tokens
    _, reader = tokens.create("reader1", ("predict",))
    _, trainer = tokens.create("trainer", ("train",))

    def asked(attributes: str, **headers: str) -> tuple[int, str | None]:
        answer = api.post("/invocations", content=make_png(), headers={HEADER: attributes, **headers})
        assert "token" not in answer.headers.get(HEADER, "")
        return answer.status_code, answer.json()["code"] if answer.is_error else None

    assert asked(f"adapter=cells,token={reader}") == (200, None)
    assert asked(f"token={reader},adapter=cells", Authorization="Bearer nobody") == (401, "unauthorized")
    assert asked(f"adapter=cells,token={trainer}") == (403, "scope_missing")
    assert asked("adapter=cells,token=nobody") == (401, "unauthorized")
    assert asked("adapter=cells") == (401, "unauthorized")
    assert api.get("/adapters", headers={HEADER: f"token={reader}"}).status_code == 401
    assert api.get("/ping").status_code == 200
