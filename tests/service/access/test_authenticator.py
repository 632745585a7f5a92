from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from lensmount_service.access.authenticator import Authenticator
from lensmount_service.access.identity import FIRST_ADMIN, LOOPBACK, Identity
from lensmount_service.access.tokens import TokenStore
from lensmount_service.errors import HostNotAllowed, Unauthorized
from lensmount_service.store.database import Database

OIDC = Identity("subject", "issuer|subject", frozenset({"predict"}), "lab1")


class Provider:
    async def identify(self, bearer: str) -> Identity | None:
        return OIDC if bearer == "provider's" else None


@pytest.fixture
def tokens(tmp_path: Path) -> TokenStore:
    return TokenStore(Database(tmp_path / "registry.sqlite3"))


def identify(authenticator: Authenticator, token: str | None = None, host: str = "127.0.0.1") -> Identity:
    headers = {"host": host} | ({} if token is None else {"authorization": f"Bearer {token}"})
    return asyncio.run(authenticator.identify(Headers(headers)))


def test_without_any_token_everybody_on_this_machine_may_call(tokens: TokenStore) -> None:
    assert identify(Authenticator(tokens)) == LOOPBACK
    with pytest.raises(HostNotAllowed):
        identify(Authenticator(tokens), host="lab.example")


def test_the_first_token_ends_that(tokens: TokenStore) -> None:
    authenticator = Authenticator(tokens)
    assert identify(authenticator) == LOOPBACK

    _, secret = tokens.create("admin", {"admin"})

    with pytest.raises(Unauthorized):
        identify(authenticator)
    assert identify(authenticator, secret, host="lab.example").actor == "admin"
    assert identify(authenticator, secret).actor == "admin"


def test_a_server_stays_closed_when_its_last_token_is_revoked_or_has_expired(tokens: TokenStore) -> None:
    tokens.create("reader1", {"admin"}, lifetime_s=-1)
    tokens.create("admin", {"admin"})
    tokens.revoke("admin")

    with pytest.raises(Unauthorized):
        identify(Authenticator(tokens))


def test_a_server_on_other_addresses_is_never_open_whatever_host_a_caller_writes(tokens: TokenStore) -> None:
    with pytest.raises(Unauthorized):
        identify(Authenticator(tokens, on_loopback=False), host="localhost")


def test_the_token_of_the_settings_is_the_first_administrator(tokens: TokenStore) -> None:
    authenticator = Authenticator(tokens, "secret")

    assert identify(authenticator, "secret") == FIRST_ADMIN
    for wrong in ("secre", "secret2", "SECRET", None):
        with pytest.raises(Unauthorized):
            identify(authenticator, wrong)


def test_a_wrong_token_is_refused_even_where_none_is_needed(tokens: TokenStore) -> None:
    with pytest.raises(Unauthorized):
        identify(Authenticator(tokens), "wrong")


def test_an_identity_provider_recognises_its_own_tokens(tokens: TokenStore) -> None:
    authenticator = Authenticator(tokens, verifiers=(Provider(),))

    assert identify(authenticator, "provider's") == OIDC
    for wrong in ("another's", None):
        with pytest.raises(Unauthorized):
            identify(authenticator, wrong)
