"""The OpenAPI document describes every route, the bodies that the routes read themselves, and the errors."""

from __future__ import annotations

from fastapi.testclient import TestClient

from lensmount_service.web import openapi
from lensmount_service.web.problems import CODES, MEDIA_TYPE


def test_every_status_of_an_error_that_a_client_reads_is_described() -> None:
    assert set(openapi.PROBLEMS) == set(CODES.values()) - {405, 499, 500}
    for described in openapi.PROBLEMS.values():
        assert described["description"].endswith(".")
        assert "code" in described["content"][MEDIA_TYPE]["schema"]["properties"]


def test_the_openapi_document_names_every_route_with_examples(shared_client: TestClient) -> None:
    document = shared_client.get("/openapi.json").json()

    assert {"/predict", "/adapters", "/adapters/{name}/file", "/integrity", "/limits"} <= document["paths"].keys()
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
