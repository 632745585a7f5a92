"""Tokens of a state folder without a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lensmount_service.access.tokens import TokenStore
from lensmount_service.local_tokens import LocalTokens
from lensmount_service.store.database import Database

Ask = Callable[..., Any]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """`ask("POST", "/tokens", name="admin", scopes=["admin"])` sends the rest as the body."""

    def send(method: str, path: str, **body: Any) -> Any:
        params = {"tenant": body["tenant"]} if "tenant" in body else {}
        answer = LocalTokens(tmp_path).answer(method, path, params, json.dumps(body).encode())
        return json.loads(answer) if answer else None

    return send


def test_what_is_made_in_the_folder_is_what_the_server_finds_there(ask: Ask, tmp_path: Path) -> None:
    admin = ask("POST", "/tokens", name="admin", scopes=["admin"])
    made = ask("POST", "/tokens", name="reader1", scopes=["predict"], tenant="lab", quotas={"queued_jobs": 2})

    with closing(Database(tmp_path / "registry.sqlite3")) as database:
        tokens = TokenStore(database)
        found = tokens.find(made["secret"])
        assert tokens.find(admin["secret"]) is not None
    assert found is not None
    assert (found.name, found.tenant, found.quotas.queued_jobs) == ("reader1", "lab", 2)
    assert [token["name"] for token in ask("GET", "/tokens")["tokens"]] == ["admin", "reader1"]
    assert [token["name"] for token in ask("GET", "/tokens", tenant="lab")["tokens"]] == ["reader1"]


def test_rotate_and_revoke(ask: Ask) -> None:
    first = ask("POST", "/tokens", name="admin", scopes=["admin"])

    assert ask("POST", "/tokens/admin/rotate")["secret"] != first["secret"]
    assert ask("DELETE", "/tokens/admin") is None
    assert ask("GET", "/tokens")["tokens"] == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": "reader1", "scopes": ["predict"]}, "lensmount tokens create admin --scopes admin"),
        ({"name": "A B", "scopes": ["admin"]}, "token name"),
        ({"name": "admin", "scopes": ["root"]}, "found the scope 'root'"),
        ({"name": "admin", "scopes": ["admin"], "tenant": "A"}, "found the tenant 'A'"),
        ({"name": "admin", "scopes": ["admin"], "quotas": {"queue_share": 0}}, "queue_share"),
    ],
)
def test_a_refusal_is_a_sentence(ask: Ask, body: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask("POST", "/tokens", **body)


def test_another_route_is_refused(ask: Ask) -> None:
    with pytest.raises(ValueError, match="expected a route of /tokens"):
        ask("PUT", "/tokens/a/b")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ValueError, match=r"found a file at .*file, expected a folder.*--state"):
        LocalTokens(tmp_path / "file").answer("GET", "/tokens", {}, None)
