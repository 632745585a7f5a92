"""What test_rest.py does not show with a client: other tenants, refusals and several versions."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter


def load(client: TestClient, name: str, **parameters: Any) -> Any:
    return client.post(f"/v2/repository/models/{name}/load", json={"parameters": parameters})


def test_a_file_becomes_the_latest_version_and_the_index_lists_each(
    shared_client: TestClient, make_adapter: MakeAdapter
) -> None:
    for seed in (21, 23):
        answer = load(shared_client, "listed", **{"file:1/a": base64.b64encode(make_adapter(seed)).decode()})
        assert (answer.status_code, answer.content) == (200, b"")
    rows = shared_client.post("/v2/repository/index").json()
    assert [row for row in rows if row["name"] == "listed"] == [
        {"name": "listed", "version": number, "state": "READY", "reason": ""} for number in ("1", "2")
    ]


def test_what_cannot_be_loaded_is_refused(shared_client: TestClient, make_adapter: MakeAdapter) -> None:
    text = base64.b64encode(make_adapter(23)).decode()
    refused: list[tuple[str, dict[str, Any], int, str]] = [
        ("nothing", {}, 404, "adapter_not_found"),
        ("Nothing", {}, 422, "invalid_reference"),
        ("bad", {"file:1/a": "===="}, 422, "invalid_request"),
        ("bad", {"file:1/a": text, "file:2/a": text}, 422, "invalid_request"),
        ("bad", {"file:1/a": True}, 422, "invalid_request"),
        ("public/bad", {"file:1/a": text}, 403, "public_read_only"),
        ("latest", {"file:1/a": text}, 422, "invalid_name"),
    ]
    for name, parameters, status, code in refused:
        answer = load(shared_client, name, **parameters)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (name, answer.text)
    assert shared_client.get("/adapters/bad").status_code == 404


def test_unloading_can_be_undone_and_is_refused_for_what_is_not_there(
    shared_client: TestClient, make_adapter: MakeAdapter
) -> None:
    shared_client.put("/adapters/gone", content=make_adapter(24))
    path = "/v2/repository/models/gone/unload"
    assert shared_client.post(path, json={"parameters": {"unload_dependents": False}}).status_code == 200
    assert shared_client.post(path).json()["error"].startswith("adapter_not_found: ")
    assert shared_client.get("/v2/models/gone/ready").status_code == 404
    assert load(shared_client, "gone").status_code == 200
    assert shared_client.get("/v2/models/gone/ready").json() == {"name": "gone", "ready": True}
    assert load(shared_client, "gone").status_code == 200  # again


def test_an_adapter_whose_file_is_too_large_is_refused_before_it_is_read(shared_client: TestClient) -> None:
    answer = shared_client.post("/v2/repository/models/big/load", content=b"x" * (90 * 2**20))
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
