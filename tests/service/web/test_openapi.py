"""The OpenAPI document describes every route, the bodies that the routes read themselves, and the errors."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
from fastapi.testclient import TestClient

from lensmount_service.routes.docs import docs_router
from lensmount_service.web import openapi
from lensmount_service.web.problems import CODES, MEDIA_TYPE


def test_every_status_of_an_error_that_a_client_reads_is_described() -> None:
    assert set(openapi.PROBLEMS) == set(CODES.values()) - {405, 499, 500}
    for described in openapi.PROBLEMS.values():
        assert described["description"].endswith(".")
        assert described["content"][MEDIA_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_the_openapi_document_names_every_route_with_examples(shared_client: TestClient) -> None:
    document = shared_client.get("/openapi.json").json()

    assert {"/predict", "/adapters", "/adapters/{name}/file", "/integrity", "/limits"} <= document["paths"].keys()
    assert "code" in document["components"]["schemas"]["Problem"]["properties"]
    predict = document["paths"]["/predict"]["post"]
    assert "multipart/form-data" in predict["requestBody"]["content"]
    assert "malaria" in str(predict["parameters"])
    assert shared_client.get("/docs").status_code == 200


def test_every_operation_describes_the_errors_that_all_share(shared_client: TestClient) -> None:
    shared = {str(status) for status in openapi.PROBLEMS}
    for path, methods in shared_client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            assert shared <= operation["responses"].keys(), (method, path)


def test_every_answer_with_a_body_has_a_media_type(shared_client: TestClient) -> None:
    for path, methods in shared_client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            for status, described in operation["responses"].items():
                assert status == "204" or described.get("content"), (method, path, status)


def test_while_the_description_is_made_for_all_who_ask_other_requests_are_answered() -> None:
    app = openapi.DescribedApp(title="any")
    app.include_router(docs_router())
    may_end, began = threading.Event(), threading.Event()
    made = []

    def slow() -> dict[str, Any]:
        made.append("once")
        began.set()
        assert may_end.wait(60)
        return {"openapi": "3.1.0"}

    async def story() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            asked = [asyncio.create_task(client.get("/openapi.json")) for _ in range(40)]
            while not began.is_set():
                await asyncio.sleep(0)
            assert (await client.get("/docs")).status_code == 200
            assert not any(task.done() for task in asked)
            may_end.set()
            answers = [await task for task in asked]
            answers.append(await client.get("/openapi.json"))
        assert {(answer.status_code, answer.text) for answer in answers} == {(200, '{"openapi":"3.1.0"}')}

    app.openapi = slow  # type: ignore[method-assign]  # a description that takes long
    asyncio.run(story())
    assert made == ["once"]
