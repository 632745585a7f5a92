"""Tokens by both clients."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from lensmount_client import AsyncClient, Client, Quotas, Token, TokenExists, TokenNotFound


def test_tokens_are_made_listed_rotated_and_revoked(server: Any) -> None:
    with Client(server.url) as client:
        made = client.tokens.create("reader1", ["predict"], tenant="lab", lifetime_s=60, quotas={"queued_jobs": 2})
        with pytest.raises(TokenExists):
            client.tokens.create("reader1", ["predict"])
        listed = client.tokens.list("lab")
        rotated = client.tokens.rotate("reader1", tenant="lab")
        client.tokens.revoke("reader1")
        with pytest.raises(TokenNotFound):
            client.tokens.revoke("reader1")
        who = client.whoami()

    began, ends = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2026, 4, 2, 3, 4, 5, tzinfo=UTC)
    assert made.token == Token("reader1", "lab", ("predict",), began, ends, Quotas(queued_jobs=2))
    assert (made.secret, rotated.secret) == ("lm_first", "lm_second")
    assert "lm_first" not in repr(made)
    assert listed == [made.token]
    assert [query for _, query in server.tokens.asked] == [{}, {}, {"tenant": "lab"}, {"tenant": "lab"}, {}, {}]
    assert (who.actor, who.tenant, who.used) == ("reader1", "lab", {"requests_per_minute": 12.0})


def test_the_async_client_does_the_same(server: Any) -> None:
    async def story() -> None:
        async with AsyncClient(server.url) as client:
            made = await client.tokens.create("reader1", ["predict"])
            assert await client.tokens.list() == [made.token]
            assert (await client.tokens.rotate("reader1")).secret == "lm_second"
            await client.tokens.revoke("reader1")
            assert (await client.whoami()).scopes == ("predict",)

    asyncio.run(story())
