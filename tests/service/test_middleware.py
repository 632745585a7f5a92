from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lensmount_service import logs
from lensmount_service.app import OPEN_PATHS
from lensmount_service.middleware import ONCE
from lensmount_service.settings import Settings

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts


@pytest.fixture
def protected(make_parts: MakeParts) -> Iterator[TestClient]:
    with make_parts(token="secret") as parts, TestClient(parts.app, base_url="http://lab.example") as client:
        yield client


def every_route(app: FastAPI) -> Iterator[tuple[str, str]]:
    for path, methods in app.openapi()["paths"].items():
        for method in methods:
            yield (
                method.upper(),
                path.format(
                    **{"name": "cells", "adapter": "cells", "version": 1, "alias": "prod"},
                    **{"digest": f"sha256:{'0' * 64}", "job_id": "0" * 32},
                ),
            )


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}])
def test_every_route_except_health_and_docs_requires_the_token(protected: TestClient, headers: dict[str, Any]) -> None:
    asked = list(every_route(cast(FastAPI, protected.app)))

    assert len(asked) >= 30
    for method, path in asked:
        answer = protected.request(method, path, headers=headers)
        if path in OPEN_PATHS:
            assert answer.status_code in (200, 503)
        else:
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), path
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_with_the_token_any_host_name_is_served(protected: TestClient) -> None:
    assert protected.get("/limits", headers={"Authorization": "Bearer secret"}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""])
def test_without_a_token_only_loopback_names_are_served(shared_client: TestClient, host: str) -> None:
    answer = shared_client.get("/adapters", headers={"Host": host})

    assert (answer.status_code, answer.json()["code"]) == (421, "host_not_allowed")


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000"])
def test_loopback_names_are_served_without_a_token(shared_client: TestClient, host: str) -> None:
    assert shared_client.get("/adapters", headers={"Host": host}).status_code == 200


def test_a_page_of_another_site_is_refused(shared_client: TestClient) -> None:
    refused = shared_client.post("/predict?adapter=cells", content=b"", headers={"Origin": "https://evil.example"})
    assert (refused.status_code, refused.json()["code"]) == (403, "origin_not_allowed")
    assert shared_client.get("/adapters", headers={"Origin": "http://localhost:8000"}).status_code == 200


def test_the_server_chooses_the_request_id(shared_client: TestClient) -> None:
    first = shared_client.get("/limits", headers={"X-Request-Id": "mine"}).headers["X-Request-Id"]
    second = shared_client.get("/limits").headers["X-Request-Id"]

    assert len({first, second, "mine"}) == 3


@pytest.fixture
def quiet_again() -> Iterator[None]:
    """Asked for before `capsys`, so that what it configures writes to the stderr that stays."""
    yield
    logs.configure(Settings(log_level="error"))  # as for all other tests


@pytest.mark.usefixtures("quiet_again")
def test_the_log_of_a_request_says_the_caller_s_tenant(
    shared_client: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(Settings(log_level="info", log_format="json"))
    shared_client.get("/adapters")
    shared_client.get("/health/live")

    captured = capsys.readouterr()
    lines = [json.loads(line) for line in (captured.out + captured.err).splitlines()]
    assert [line["tenant"] for line in lines if line["event"] == "request"] == ["default", None]


@pytest.mark.parametrize("name", sorted(name.decode() for name in ONCE))
def test_a_header_of_one_value_that_comes_twice_is_refused(shared_client: TestClient, name: str) -> None:
    headers = [*shared_client.build_request("GET", "/limits").headers.raw, (name.encode(), b"1"), (name.encode(), b"2")]

    answer = shared_client.get("/limits", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert f"found the header {name} twice, expected it once. Fix: " in answer.json()["detail"]
