from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lensmount_service.web.hardening import HEADERS, harden

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts


def test_what_a_route_says_itself_stays() -> None:
    message: dict[str, Any] = {"headers": [(b"Cache-Control", b"private, max-age=60"), (b"x-frame-options", b"DENY")]}

    harden(message)

    names = [name.lower() for name, _ in message["headers"]]
    assert len(names) == len(set(names)) == len(HEADERS)
    assert (b"Cache-Control", b"private, max-age=60") in message["headers"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(
            ("GET", path)
            for path in ("/adapters", "/health/ready", "/openapi.json", "/nowhere", "/", "/docs", "/metrics")
        ),
        *(("POST", "/predict?adapter=cells"), ("DELETE", "/adapters/nothing"), ("PUT", "/"), ("GET", "/" + "x" * 5000)),
    ],
)
def test_every_answer_has_every_header(shared_client: TestClient, method: str, path: str) -> None:
    answer = shared_client.request(method, path)

    for name, value in HEADERS.items():
        if name == "Content-Security-Policy":
            assert "frame-ancestors 'none'" in answer.headers[name]
        elif name != "Cache-Control" or path not in ("/", "/docs"):
            assert answer.headers.get_list(name) == [value], name


def test_a_refused_caller_and_a_bug_get_them_too(make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_parts(token="first") as parts:
        client = TestClient(parts.app, raise_server_exceptions=False)
        with client:
            refused = client.get("/adapters")
            monkeypatch.setattr(type(parts.catalog), "entries", None)
            bug = client.get("/adapters", headers={"Authorization": "Bearer first"})
    assert (refused.status_code, bug.status_code) == (401, 500)
    for answer in (refused, bug):
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


def test_the_description_of_the_api_says_how_to_send_a_token(shared_client: TestClient) -> None:
    document = cast(FastAPI, shared_client.app).openapi()

    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert document["security"] == [{"token": []}, {}]  # an open server needs none
