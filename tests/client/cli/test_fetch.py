"""The server fetches an adapter, by the command and by both clients."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from lensmount_client import AsyncClient, Client, DigestMismatch, PushedAdapter

URL = "hf://lab/adapters@v1/pets.safetensors"
DIGEST = f"sha256:{hashlib.sha256(URL.encode()).hexdigest()}"  # the tiny server has each URL as its own content


def test_the_command_prints_the_version(
    server: Any, lensmount: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENSMOUNT_URL", server.url)
    assert lensmount("adapters", "add", "pets", URL, "--digest", DIGEST) == (0, f"pets@1  {DIGEST}\n", "")
    signature = tmp_path / "pets.safetensors.sig"
    signature.write_text("keyid=0, sig=1\n")
    signed = ("--digest", DIGEST, "--signature", str(signature), "--json")
    assert json.loads(lensmount("adapters", "add", "pets", URL, *signed)[1]) == {
        "name": "pets",
        "version": 2,
        "digest": DIGEST,
    }
    assert server.signatures == [None, "keyid=0, sig=1"]
    code, _, told = lensmount("adapters", "add", "pets", URL, "--digest", "sha256:" + "0" * 64)
    assert (code, "another SHA-256" in told) == (1, True)


def test_both_clients_fetch(server: Any) -> None:
    async def fetch() -> PushedAdapter:
        async with AsyncClient(server.url) as client:
            return await client.adapters.fetch("pets", URL, DIGEST)

    assert asyncio.run(fetch()) == PushedAdapter("pets", 1, DIGEST, None)
    with Client(server.url) as client:
        assert client.adapters.fetch("pets", URL, DIGEST).version == 2
        with pytest.raises(DigestMismatch):
            client.adapters.fetch("pets", URL, "sha256:" + "0" * 64)
