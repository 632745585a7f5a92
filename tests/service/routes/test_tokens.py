"""/tokens over HTTP: who may make, see, rotate and revoke which token."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def served(make_shared_parts: MakeParts) -> Iterator[TestClient]:
    with make_shared_parts(token="first") as parts, TestClient(parts.app, base_url="http://lab.example") as client:
        yield client


@pytest.fixture
def ask(served: TestClient) -> Ask:
    """`ask("first", "GET", "/tokens")` sends this token."""

    def send(token: str, method: str, path: str, **options: Any) -> Any:
        return served.request(method, path, headers={"Authorization": f"Bearer {token}"}, **options)

    return send


_numbers = itertools.count()


@pytest.fixture
def make(ask: Ask) -> Callable[..., tuple[str, str]]:
    """`name, secret = make(["predict"], tenant="lab")`."""

    def create(scopes: list[str], by: str = "first", **more: Any) -> tuple[str, str]:
        name = f"token{next(_numbers)}"
        answer = ask(by, "POST", "/tokens", json={"name": name, "scopes": scopes, **more})
        assert answer.status_code == 201, answer.text
        return name, answer.json()["secret"]

    return create


def test_a_token_is_shown_once_works_at_once_and_ends_when_it_is_revoked(ask: Ask, make: Any) -> None:
    name, secret = make(["predict"], quotas={"stored_bytes": 7})

    assert ask(secret, "GET", "/adapters").status_code == 200
    listed = ask("first", "GET", "/tokens")
    assert secret not in listed.text
    (found,) = [token for token in listed.json()["tokens"] if token["name"] == name]
    assert (found["scopes"], found["quotas"]["stored_bytes"], found["expires_at"]) == (["predict"], 7, None)

    assert ask("first", "DELETE", f"/tokens/{name}").status_code == 204
    assert ask(secret, "GET", "/adapters").status_code == 401
    assert ask("first", "DELETE", f"/tokens/{name}").json()["code"] == "token_not_found"


def test_a_rotated_token_has_another_secret_and_the_same_rights(ask: Ask, make: Any) -> None:
    name, secret = make(["predict"], tenant="lab", lifetime_s=1000)

    made = ask("first", "POST", f"/tokens/{name}/rotate", params={"tenant": "lab"}).json()

    assert ask(secret, "GET", "/whoami").status_code == 401
    assert ask(made["secret"], "GET", "/whoami").json()["scopes"] == made["scopes"] == ["predict"]


def test_a_tenants_administrator_manages_only_the_own_tenants_tokens(ask: Ask, make: Any) -> None:
    _, admin = make(["admin"], tenant="lab-a")
    theirs, _ = make(["predict"], tenant="lab-b")
    own, secret = make(["predict"], by=admin)

    assert ask(secret, "GET", "/whoami").json()["tenant"] == "lab-a"
    listed = ask(admin, "GET", "/tokens").json()["tokens"]
    assert own in [token["name"] for token in listed]
    assert {token["tenant"] for token in listed} == {"lab-a"}
    for method, path in (("DELETE", f"/tokens/{theirs}"), ("POST", f"/tokens/{theirs}/rotate")):
        assert ask(admin, method, path).json()["code"] == "token_not_found"
        for tenant in ("lab-b", "nobody"):  # one that exists and one that does not
            answer = ask(admin, method, path, params={"tenant": tenant})
            assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
    assert ask("first", "GET", "/tokens", params={"tenant": "lab-b"}).json()["tokens"][0]["name"] == theirs


@pytest.mark.parametrize("scopes", [["predict"], ["upload"], ["train"]])
def test_without_the_scope_admin_tokens_are_out_of_reach(ask: Ask, make: Any, scopes: list[str]) -> None:
    name, secret = make(scopes)

    for method, path in (
        *(("GET", "/tokens"), ("POST", "/tokens"), ("DELETE", f"/tokens/{name}")),
        ("POST", f"/tokens/{name}/rotate"),
    ):
        assert ask(secret, method, path, content=b"{}").json()["code"] == "scope_missing"


def test_nobody_makes_a_token_with_more_than_the_own_one_has(ask: Ask, make: Any) -> None:
    limits = {"requests_per_minute": 100_000, "stored_bytes": 1000}
    name, admin = make(["admin"], tenant="lab-c", lifetime_s=1000, quotas=limits)

    for more in ({"lifetime_s": 2000}, {"quotas": {"stored_bytes": 1001}}, {"tenant": "default"}):
        answer = ask(admin, "POST", "/tokens", json={"name": "more", "scopes": ["predict"], **more})
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), more
    _, secret = make(["admin"], by=admin)
    found = ask(secret, "GET", "/whoami").json()
    assert found["quotas"]["stored_bytes"] == 1000
    assert found["expires_at"] <= ask(admin, "GET", "/whoami").json()["expires_at"]

    ends = ask(admin, "GET", "/whoami").json()["expires_at"]
    rotated = ask(admin, "POST", f"/tokens/{name}/rotate").json()
    assert rotated["expires_at"] == ends  # rotating oneself again and again does not lengthen a life


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"name": "a"}', b'{"name": "A b", "scopes": ["predict"]}', b'{"name": "a", "scopes": []}']
    + [json.dumps({"name": "a", "scopes": scopes}).encode() for scopes in (["root"], ["predict"] * 99, [1], "admin")]
    + [json.dumps({"name": "a", "scopes": ["predict"], "tenant": name}).encode() for name in ("public", "A", "", "a/b")]
    + [b"\xff\xfe", b'{"name": "a", "scopes": ["predict"], "lifetime_s": 1e999}', b" " * 10_000],
)
def test_a_wrong_body_is_a_clear_refusal(ask: Ask, body: bytes) -> None:
    answer = ask("first", "POST", "/tokens", content=body)

    assert answer.status_code in (400, 413, 422), answer.text
    assert answer.json()["detail"]


def test_on_an_open_server_the_first_token_must_be_able_to_make_others(make_parts: MakeParts) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        refused = client.post("/tokens", json={"name": "reader1", "scopes": ["predict"]})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
        made = client.post("/tokens", json={"name": "admin", "scopes": ["admin"]})
        assert made.status_code == 201
        assert client.get("/whoami").status_code == 401  # from now on, nobody calls without a token
        headers = {"Authorization": f"Bearer {made.json()['secret']}"}
        assert client.get("/whoami", headers=headers).json()["operator"] is True
