from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lensmount_service.web.error_members import ErrorMembers, extended
from lensmount_service.web.openapi import DescribedApp
from lensmount_service.web.problems import CODES, NEVER_SENT, install, problem


def test_every_code_of_a_problem_is_in_the_error_under_v2_and_nowhere_else() -> None:
    for code in CODES.keys() - NEVER_SENT:
        plain = problem(CODES[code], code, "found x", "id", {"Retry-After": "3"})
        shown = extended("/v2/models/cells?x", plain)
        assert json.loads(bytes(shown.body)) == {**json.loads(bytes(plain.body)), "error": f"{code}: found x"}
        assert (shown.status_code, shown.headers["Retry-After"]) == (CODES[code], "3")
        assert shown.headers["Content-Type"] == "application/problem+json"
        assert int(shown.headers["Content-Length"]) == len(shown.body)
        for path in ("/v20", "/predict", "/", "/x/v2"):
            assert extended(path, plain) is plain


@pytest.fixture
def app() -> FastAPI:
    app = DescribedApp()
    install(app)

    @app.middleware("http")
    async def named(request: Any, call_next: Any) -> Any:
        request.state.request_id = "id"
        return await call_next(request)

    @app.get("/v2/bug")
    @app.get("/bug")
    async def bug() -> None:
        raise KeyError("bug")

    @app.get("/v2/fine")
    async def fine() -> dict[str, str]:
        return {"error": "no problem document"}

    return app


def test_an_error_that_the_outermost_handler_answers_has_the_member_as_well(app: FastAPI) -> None:
    client = TestClient(app, raise_server_exceptions=False)
    told = client.get("/v2/bug")
    assert (told.status_code, told.json()["error"].partition(":")[0]) == (500, "internal_error")
    assert "error" not in client.get("/bug").json()
    assert client.get("/v2/nothing").json()["error"].startswith("not_found: ")
    assert client.post("/v2/fine").json()["error"].startswith("method_not_allowed: ")
    assert client.get("/v2/fine").json() == {"error": "no problem document"}


def test_a_document_in_several_messages_is_sent_when_it_is_complete() -> None:
    document = problem(404, "not_found", "found nothing", "id")
    sent: list[Any] = []

    async def in_two(scope: Any, receive: Any, send: Any) -> None:
        half = len(document.body) // 2
        await send({"type": "http.response.start", "status": 404, "headers": list(document.raw_headers)})
        await send({"type": "http.response.body", "body": bytes(document.body[:half]), "more_body": True})
        assert sent == []
        await send({"type": "http.response.body", "body": bytes(document.body[half:])})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    asyncio.run(ErrorMembers(in_two)({"type": "http", "path": "/v2"}, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert json.loads(sent[1]["body"])["error"] == "not_found: found nothing"


def test_every_code_has_the_shape_of_vllm_under_v1_and_of_hugging_face_under_hf() -> None:
    for code in CODES.keys() - NEVER_SENT:
        plain = problem(CODES[code], code, "found x", "id")
        text = f"{code}: found x"
        assert json.loads(bytes(extended("/hf/cells", plain).body))["error"] == text
        error = json.loads(bytes(extended("/v1/models", plain).body))["error"]
        assert (error["message"], error["param"], error["code"]) == (text, None, CODES[code])
        kinds = {400: "BadRequestError", 404: "NotFoundError", 429: "Too Many Requests", 500: "InternalServerError"}
        assert error["type"] == kinds.get(CODES[code], error["type"]) != ""
