"""The asynchronous client, against a real socket, a mocked transport and an ASGI application."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.client.answers import PREDICTION, answering, good, said_no

from lensmount_client import AdapterNotFound, AsyncClient, ImageTruncated, RetryPolicy


def test_the_async_client_sends_its_timeout_too() -> None:
    handle, seen = answering(good(), good())

    async def ask() -> None:
        async with AsyncClient(transport=httpx.MockTransport(handle), timeout=7.5) as client:
            await client.predict(b"pixels", adapter="malaria")
            assert [outcome.error async for outcome in client.predict_many([b"pixels"], adapter="malaria")] == [None]

    asyncio.run(ask())
    assert [request.url.params.get("timeout") for request in seen] == ["7.5", "7.5"]


def test_the_async_client_does_the_same(server: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with AsyncClient(server.url) as client:
            assert (await client.predict(b"cell", adapter="malaria")).top.label == "cell"
            assert [p.adapter.name for p in await client.predict(b"x", ["malaria", "smoking"])] == [
                "malaria",
                "smoking",
            ]
            with pytest.raises(AdapterNotFound, match="no adapter is called none"):
                await client.predict(b"cell", adapter="none")
            outcomes = [o async for o in client.predict_many([b"one", b"bad", b"two"], "malaria", concurrency=2)]
            assert [o.prediction.top.label if o.prediction else None for o in outcomes] == ["one", None, "two"]
            assert isinstance(outcomes[1].error, ImageTruncated)
            assert (await client.health()).status == "ok"
            assert await client.limits() == {"max_image_bytes": 1000}
            assert (await client.integrity()).ok

    asyncio.run(run())


def test_the_async_client_retries_and_waits_as_the_server_asks() -> None:
    handle, seen = answering(said_no(429, "queue_full", retry_after="3"), httpx.ReadError("reset"), good())
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    async def run() -> None:
        policy = RetryPolicy(random=lambda: 0.0)
        async with AsyncClient(transport=httpx.MockTransport(handle), retries=policy, sleep=nap) as client:
            assert (await client.predict(b"pixels", "malaria")).top.label == "parasitized"

    asyncio.run(run())
    assert (len(seen), naps) == (3, [3.0, 0.25])


def test_a_client_works_in_front_of_an_asgi_application() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(PREDICTION).encode()})

    async def run() -> str:
        async with AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return (await client.predict(b"pixels", "malaria")).top.label

    assert asyncio.run(run()) == "parasitized"
