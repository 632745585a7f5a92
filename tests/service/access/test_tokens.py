"""Tokens on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from lensmount_service.access.identity import Quotas
from lensmount_service.access.tokens import TokenStore, token_table
from lensmount_service.errors import NotFound, RequestInvalid
from lensmount_service.store.database import Database


@pytest.fixture
def tokens(database: Database) -> TokenStore:
    return TokenStore(database)


def test_a_token_is_found_by_its_secret_with_all_that_it_allows(tokens: TokenStore) -> None:
    made, secret = tokens.create("reader1", {"predict", "upload"}, "lab1", quotas=Quotas(requests_per_minute=60))

    found = tokens.find(secret)
    assert found == made
    assert found is not None
    assert (found.identity().actor, found.identity().tenant) == ("reader1", "lab1")
    assert found.identity().quotas == Quotas(requests_per_minute=60)
    assert found.scopes == {"predict", "upload"}


def test_the_secret_is_not_stored(tokens: TokenStore, database: Database) -> None:
    _, secret = tokens.create("reader1", {"predict"})

    with database.read() as connection:
        stored = str(connection.execute(sa.select(token_table)).all())
    assert secret not in stored
    assert secret.removeprefix("lm_") not in stored


def test_another_secret_finds_nothing(tokens: TokenStore) -> None:
    _, secret = tokens.create("reader1", {"predict"})

    assert [tokens.find(other) for other in ("", "lm_", secret[:-1], secret + "x", "\udc80")] == [None] * 5


def test_a_revoked_token_is_refused_from_the_next_request_on(tokens: TokenStore, database: Database) -> None:
    _, secret = tokens.create("reader1", {"predict"})
    assert tokens.find(secret) is not None

    TokenStore(database).revoke("reader1")  # another process

    assert tokens.find(secret) is None
    assert tokens.find_cached(secret) is None
    with pytest.raises(NotFound, match="lensmount tokens list"):
        tokens.revoke("reader1")


def test_an_expired_token_is_refused(tokens: TokenStore) -> None:
    _, secret = tokens.create("reader1", {"predict"}, lifetime_s=-1)

    assert tokens.find(secret) is None
    assert tokens.list() == []


def test_rotating_ends_the_old_secret_and_keeps_what_the_token_allows(tokens: TokenStore) -> None:
    before, old = tokens.create("reader1", {"train"}, "lab1", 3600, Quotas(queued_jobs=2))

    after, new = tokens.rotate("reader1", "lab1")

    assert tokens.find(old) is None
    assert tokens.find(new) == after
    assert (after.scopes, after.quotas, after.tenant) == (before.scopes, before.quotas, "lab1")
    assert after.expires_at == pytest.approx(after.created_at + 3600)


def test_names_are_unique_within_a_tenant(tokens: TokenStore) -> None:
    tokens.create("reader1", {"predict"}, "lab1")
    tokens.create("reader1", {"predict"}, "lab2")

    with pytest.raises(RequestInvalid, match="Fix: choose another name, or lensmount tokens rotate reader1"):
        tokens.create("reader1", {"predict"}, "lab1")
    assert [token.tenant for token in tokens.list()] == ["lab1", "lab2"]
    assert [token.tenant for token in tokens.list("lab1")] == ["lab1"]


def test_the_first_token_can_make_others(tokens: TokenStore) -> None:
    assert not tokens.was_there_any()
    with pytest.raises(RequestInvalid, match="Fix: lensmount tokens create admin --scopes admin"):
        tokens.create("reader1", {"predict"}, first_must_be_admin=True)

    tokens.create("admin", {"admin"}, first_must_be_admin=True)

    assert tokens.was_there_any()
    tokens.create("reader1", {"predict"}, first_must_be_admin=True)


def test_a_name_that_is_nearly_right_is_suggested(tokens: TokenStore) -> None:
    tokens.create("reader1", {"predict"})

    with pytest.raises(NotFound, match="Did you mean 'reader1'"):
        tokens.rotate("raeder1")
