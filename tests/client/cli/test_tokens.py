"""`lensmount tokens` and `lensmount whoami`, at a server and in a state folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _url(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMOUNT_URL", server.url)


def test_the_secret_alone_is_on_stdout(lensmount: Any) -> None:
    code, out, err = lensmount(
        *("tokens", "create", "reader1", "--scopes", "predict, upload", "--tenant", "lab", "--expires", "90d"),
        *("--requests-per-minute", "60", "--queue-share", "0.5"),
    )

    assert (code, out) == (0, "lm_first\n")
    assert "reader1 of the tenant lab, scopes predict,upload, valid until 2026-04-02 03:04 UTC" in err
    assert "not shown again" in err
    _, out, _ = lensmount("tokens", "list", "--json")
    (token,) = json.loads(out)["tokens"]
    assert (token["quotas"]["requests_per_minute"], token["quotas"]["queue_share"]) == (60, 0.5)
    assert "lm_first" not in out


def test_rotate_and_revoke(lensmount: Any) -> None:
    lensmount("tokens", "create", "reader1")

    assert lensmount("tokens", "rotate", "reader1")[:2] == (0, "lm_second\n")
    assert lensmount("tokens", "revoke", "reader1")[:2] == (0, "revoked reader1\n")
    code, _, err = lensmount("tokens", "revoke", "reader1")
    assert (code, "token_not_found" in err) == (1, True)


def test_a_table_shows_what_each_token_may_do(lensmount: Any) -> None:
    lensmount("tokens", "create", "reader1", "--queued-jobs", "3")

    _, out, _ = lensmount("tokens", "list")
    for word in ("default", "reader1", "predict", "never", "queued_jobs 3"):
        assert word in out


@pytest.mark.parametrize("text", ["", "90", "d", "0d", "-1d", "1.5h", "90 d", "90days"])
def test_another_lifetime_is_refused_and_the_advice_works(lensmount: Any, text: str) -> None:
    code, _, err = lensmount("tokens", "create", "reader1", f"--expires={text}")
    assert (code, "Fix: --expires 90d" in err) == (2, True)
    assert lensmount("tokens", "create", "reader1", "--expires", "90d")[0] == 0


def test_whoami_says_what_is_used(lensmount: Any) -> None:
    code, out, _ = lensmount("whoami")

    assert code == 0
    assert "reader1 of the tenant lab, scopes predict" in out
    assert "requests_per_minute: 12 of 60 used" in out
    assert json.loads(lensmount("whoami", "--json")[1])["tenant"] == "lab"


def test_the_first_token_is_made_in_the_state_folder_without_a_server(lensmount: Any, tmp_path: Path) -> None:
    state = ("--state", str(tmp_path / "state"))
    code, out, err = lensmount("tokens", "create", "reader1", "--scopes", "predict", *state)
    assert (code, out) == (2, "")
    assert "Fix: lensmount tokens create admin --scopes admin" in err

    code, out, _ = lensmount("tokens", "create", "admin", "--scopes", "admin", *state)
    assert (code, out[:3]) == (0, "lm_")
    assert lensmount("tokens", "create", "reader1", "--scopes", "predict", *state)[0] == 0
    assert lensmount("tokens", "rotate", "reader1", *state)[0] == 0
    assert lensmount("tokens", "revoke", "reader1", *state)[0] == 0
    listed = json.loads(lensmount("tokens", "list", "--json", *state)[1])["tokens"]
    assert [token["name"] for token in listed] == ["admin"]
