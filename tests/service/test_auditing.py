"""What is noted in the audit log, over HTTP."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng

Look = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def served(make_shared_parts: MakeParts) -> Iterator[TestClient]:
    with make_shared_parts(token="first") as parts, TestClient(parts.app) as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


FIRST = bearer("first")
_numbers = itertools.count()


@pytest.fixture
def token(served: TestClient) -> Callable[..., tuple[str, dict[str, str]]]:
    def make(*scopes: str, tenant: str = "default") -> tuple[str, dict[str, str]]:
        name = f"t{next(_numbers)}"
        body = {"name": name, "scopes": scopes, "tenant": tenant}
        return name, bearer(served.post("/tokens", json=body, headers=FIRST).json()["secret"])

    return make


@pytest.fixture
def look(served: TestClient) -> Look:
    """`look(actor="reader1")` reads the records after they are written."""

    def read(headers: dict[str, str] = FIRST, **wanted: Any) -> list[dict[str, Any]]:
        served.app.state.audit.flush()  # type: ignore[attr-defined]  # of our app
        answer = served.get("/audit", params=wanted, headers=headers)
        assert answer.status_code == 200, answer.text
        records: list[dict[str, Any]] = answer.json()["records"]
        return records

    return read


def test_an_upload_is_noted_with_its_actor_target_digest_and_request_id(
    served: TestClient, token: Any, look: Look, make_adapter: MakeAdapter
) -> None:
    name, headers = token("upload")
    answer = served.put("/adapters/cells", content=make_adapter(), headers=headers)

    (found,) = look(actor=name)
    assert found["action"] == "PUT /adapters/{name}"
    assert found["target"] == answer.headers["Location"] == "/adapters/cells/versions/1"
    assert (found["digest"], found["status"]) == (answer.json()["digest"], 201)
    assert found["request_id"] == answer.headers["X-Request-Id"]
    assert found["tenant"] == "default"


def test_refusals_of_scope_and_identity_are_noted_and_reads_are_not(served: TestClient, token: Any, look: Look) -> None:
    name, headers = token("predict")
    served.delete("/adapters/cells?secret=hidden", headers=headers)
    served.get("/metrics", headers=headers)
    served.get("/adapters", headers=headers)
    served.post("/predict?adapter=cells", content=b"x", headers=headers)
    served.get("/datasets/patients", headers=bearer("made-up"))

    found = look(actor=name)
    assert [(each["action"], each["status"]) for each in found] == [
        ("DELETE /adapters/{name}", 403),
        ("GET /metrics", 403),
    ]
    unknown = look(actor="-")[-1]
    assert (unknown["action"], unknown["status"]) == ("GET /datasets/{name}", 401)


def test_no_body_secret_or_query_is_kept(served: TestClient, token: Any, look: Look, make_png: MakePng) -> None:
    _, headers = token("train")
    marks = ("hidden-value", "hidden-label", "made-up-token")
    served.post("/datasets/pool/unlabelled?who=hidden-value", content=make_png(), headers=headers)
    served.post("/datasets/pool/labels", content=b'{"who": "hidden-label"}', headers=headers)
    served.put("/adapters/cells?x=hidden-value", headers=bearer("made-up-token"))

    kept = json.dumps(look())
    for mark in (*marks, headers["Authorization"].partition(" ")[2], "lm_"):
        assert mark not in kept


def test_an_administrator_sees_the_own_tenant_alone(served: TestClient, token: Any, look: Look) -> None:
    _, admin = token("admin", tenant="lab-a")
    _, other = token("admin", tenant="lab-b")
    for headers in (admin, other):
        served.post("/tokens", json={"name": "reader1", "scopes": ["predict"]}, headers=headers)

    assert {each["tenant"] for each in look(admin)} == {"lab-a"}
    assert {"lab-a", "lab-b", "default"} <= {each["tenant"] for each in look()}
    assert [each["tenant"] for each in look(action="POST /tokens")].count("lab-a") == 1


def test_only_administrators_read_it(served: TestClient, token: Any) -> None:
    _, headers = token("predict", "upload", "train")

    assert served.get("/audit", headers=headers).json()["code"] == "scope_missing"


@pytest.mark.parametrize(
    "query", ["after=1", "after=1:2:3", "after=a:b", "limit=0", "limit=1001", "since=-1", "since=x"]
)
def test_a_wrong_question_is_refused(served: TestClient, query: str) -> None:
    assert served.get(f"/audit?{query}", headers=FIRST).status_code == 422


def test_a_request_is_served_while_the_log_cannot_be_written_and_health_says_so(
    make_parts: MakeParts, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        (tmp_path / "audit").write_text("in the way")
        assert client.put("/adapters/cells", content=make_adapter()).status_code == 201
        parts.app.state.audit.flush()
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "ok")
        assert "wait" in ready.json()["audit"]
        (tmp_path / "audit").unlink()
        parts.app.state.audit.flush()
        assert "audit" not in client.get("/health/ready").json()
        assert client.get("/audit").json()["records"][0]["action"] == "PUT /adapters/{name}"
