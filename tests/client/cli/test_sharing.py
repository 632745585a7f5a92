"""Adapters and datasets are shared with all tenants, by the command and by both clients."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lensmount_client import AsyncClient, Client, InvalidInput, PublicNameTaken


@pytest.fixture
def lines(server: Any, lensmount: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LENSMOUNT_URL", server.url)
    return lensmount


@pytest.mark.parametrize("kind", ["adapters", "datasets"])
def test_the_command_shares_under_a_public_name_and_takes_it_back(lines: Any, server: Any, kind: str) -> None:
    assert lines(kind, "share", "malaria") == (0, "malaria is shared as public/malaria\n", "")
    assert json.loads(lines(kind, "share", "malaria", "--as", "blood", "--json")[1]) == {
        "name": "malaria",
        "public_name": "public/blood",
    }
    assert server.shared == {(kind, "public/malaria"): "malaria", (kind, "public/blood"): "malaria"}
    assert lines(kind, "unshare", "malaria") == (0, "malaria is shared no longer\n", "")
    assert server.shared == {}


def test_what_is_public_is_listed_on_demand(lines: Any) -> None:
    lines("adapters", "share", "malaria", "--as", "blood")

    assert "public/blood" in lines("adapters", "list", "--public")[1]
    assert "public/blood" not in lines("adapters", "list")[1]


def test_both_clients_share(server: Any) -> None:
    async def share() -> str:
        async with AsyncClient(server.url) as client:
            shared = await client.adapters.share("malaria", "public/blood")
            await client.adapters.unshare("malaria")
            assert server.shared == {}
            assert await client.datasets.share("cells") == "public/cells"
            await client.datasets.unshare("cells")
            return shared

    assert asyncio.run(share()) == "public/blood"
    with Client(server.url) as client:
        assert client.datasets.share("cells") == "public/cells"
        client.datasets.unshare("cells")
        assert client.adapters.share("malaria") == "public/malaria"
        assert [info.name for info in client.adapters.list(public=True)] == ["public/malaria"]
        with pytest.raises(PublicNameTaken):
            client.adapters.share("smoking", "malaria")


def test_only_a_name_of_one_s_own_can_be_shared(server: Any) -> None:
    with Client(server.url) as client:
        for call in (lambda: client.adapters.share("public/blood"), lambda: client.adapters.share("cells", "a/b")):
            with pytest.raises(InvalidInput):
                call()
        with pytest.raises(InvalidInput):
            client.adapters.get("lab1/cells")
