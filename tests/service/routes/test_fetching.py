"""POST /adapters/{name}/fetch: a file of another server becomes a version, or nothing changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from tests.image_server import image_server

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, Until

ADMIN = {"Authorization": "Bearer first-admin-token"}


@pytest.fixture(scope="module")
def host(make_adapter: MakeAdapter) -> Iterator[str]:
    files = {"/1": make_adapter(1), "/2": make_adapter(2), "/text": b"no adapter"}
    with image_server(files) as host:
        yield host


@pytest.fixture(scope="module")
def api(make_shared_parts: MakeParts, host: str) -> Iterator[TestClient]:
    with make_shared_parts(fetch_hosts=host, token="first-admin-token") as parts:
        with TestClient(parts.app, base_url="http://127.0.0.1", headers=ADMIN) as client:
            yield client


def asked(data: bytes, url: str) -> dict[str, str]:
    return {"url": url, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}"}


def refused(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_fetched_adapter_is_a_version_like_an_uploaded_one(
    api: TestClient, host: str, make_adapter: MakeAdapter
) -> None:
    body = asked(make_adapter(1), f"http://{host}/1")
    made = api.post("/adapters/cells/fetch", json=body)
    assert (made.status_code, made.json()) == (201, {"name": "cells", "version": 1, "digest": body["digest"]})
    assert made.headers["ETag"] == f'"{body["digest"]}"'
    assert made.headers["Location"] == "/adapters/cells/versions/1"
    assert api.get("/adapters/cells/file").content == make_adapter(1)
    assert api.post("/adapters/cells/fetch", json=body).status_code == 200
    other = asked(make_adapter(2), f"http://{host}/2")
    assert refused(api.post("/adapters/cells/fetch", json=other, headers={"If-Match": '"sha256:0"'}))[0] in (412, 422)
    stale = {"If-Match": f'"{other["digest"]}"'}
    assert refused(api.post("/adapters/cells/fetch", json=other, headers=stale)) == (412, "precondition_failed")
    assert api.get("/adapters/cells").json()["versions"] == [1]


def test_what_is_refused_changes_nothing(api: TestClient, host: str, make_adapter: MakeAdapter) -> None:
    for body, expected in (
        (asked(b"no adapter", f"http://{host}/text"), (422, "adapter_malformed")),
        (asked(make_adapter(2), f"http://{host}/1"), (422, "digest_mismatch")),
        (asked(b"", f"http://{host}/missing"), (422, "source_unavailable")),
        (asked(b"", "https://adapters.example/a"), (403, "source_not_allowed")),
        (asked(b"", "hf://lab/adapters/a.safetensors"), (403, "source_not_allowed")),
        ({"url": f"http://{host}/1"}, (422, "invalid_request")),
        ({"url": f"http://{host}/1", "digest": "sha256:1"}, (422, "invalid_request")),
        ({**asked(b"", f"http://{host}/1"), "more": 1}, (422, "invalid_request")),
    ):
        answer = api.post("/adapters/new/fetch", json=body)
        assert (answer.status_code, answer.json()["code"]) == expected, answer.text
        assert "Fix: " in answer.json()["detail"]
    assert refused(api.post("/adapters/No!/fetch", json=asked(b"", ""))) == (422, "invalid_name")
    assert api.get("/adapters/new").status_code == 404


def test_scopes_tenants_and_quotas_are_those_of_an_upload(
    api: TestClient, host: str, make_adapter: MakeAdapter, until: Until
) -> None:
    data = make_adapter(1)
    body = asked(data, f"http://{host}/1")

    def token(name: str, **more: Any) -> dict[str, str]:
        made = api.post("/tokens", json={"name": name, "scopes": ["upload"], "tenant": "lab", **more})
        return {"Authorization": f"Bearer {made.raise_for_status().json()['secret']}"}

    reader = token("reader", scopes=["predict"])
    assert refused(api.post("/adapters/own/fetch", json=body, headers=reader)) == (403, "scope_missing")
    full = token("full", quotas={"stored_bytes": len(data) - 1})
    assert refused(api.post("/adapters/own/fetch", json=body, headers=full)) == (429, "quota_exceeded")
    slow = token("slow", quotas={"bytes_per_minute": len(data) + 500})
    assert api.post("/adapters/own/fetch", json=body, headers=slow).status_code == 201
    assert refused(api.post("/adapters/own/fetch", json=body, headers=slow)) == (429, "quota_exceeded")
    assert api.get("/adapters/own").status_code == 404  # it is the tenant's

    def noted() -> set[int]:
        records = api.get("/audit").json()["records"]
        return {record["status"] for record in records if "fetch" in str(record)}

    until(lambda: noted() >= {201, 412})  # the audit log is written by a thread of its own


def test_a_server_fetches_from_nowhere_unless_its_operator_says_so(make_parts: MakeParts, host: str) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        answer = client.post("/adapters/cells/fetch", json=asked(b"", f"http://{host}/1"))
        assert refused(answer) == (403, "source_not_allowed")
        assert "LENSMOUNT_FETCH_HOSTS" in answer.json()["detail"]
