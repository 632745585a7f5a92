from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lensmount_service.errors import Unavailable
from lensmount_service.web.held_bytes import HeldBytes, HeldBytesMiddleware, Holding, trim

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng


def test_a_request_may_hold_half_and_the_next_ones_half_of_what_is_left() -> None:
    held = HeldBytes(1000)
    first, second = Holding(held), Holding(held)
    first.add(500)
    with pytest.raises(Unavailable, match=r"found 500 bytes .* Fix: try again in 1 s") as caught:
        first.add(1)
    assert (caught.value.code, caught.value.retry_after_s) == ("overloaded", 1)
    second.add(250)
    with pytest.raises(Unavailable):
        second.add(1)


def test_a_thousand_large_bodies_leave_room_for_a_small_one() -> None:
    held = HeldBytes(512 * 2**20)
    for _ in range(1000):
        large = Holding(held)
        for _ in range(31 * 16):
            try:
                large.add(65536)
            except Unavailable:
                large.end()  # the request is refused, which frees what it had
                break
    small = Holding(held)
    small.add(200_000)

    assert held.held <= held.most


def test_what_a_request_held_is_free_after_it_even_if_it_fails() -> None:
    held = HeldBytes(1000)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["holding"].add(400)
        raise RuntimeError

    async def nothing(*_: Any) -> Any:
        return None

    with pytest.raises(RuntimeError):
        asyncio.run(HeldBytesMiddleware(app, held)({"type": "http"}, nothing, nothing))
    assert held.held == 0


LIMITS = [
    *("max_held_bytes", "max_request_bytes", "max_image_bytes", "max_volume_bytes", "max_adapter_bytes"),
    *("max_upload_chunk_bytes", "max_json_bytes"),
]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="malloc_trim is glibc's")
def test_freed_memory_is_given_back() -> None:
    assert trim()


@pytest.mark.parametrize("route", ["/predict?adapter=cells", "/jobs", "/explain?adapter=cells"])
def test_bodies_that_are_held_open_get_503_beyond_the_budget_and_a_small_request_is_served(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, route: str
) -> None:
    """20 requests of 400 kB stay open, of which the server has room for some."""
    limits: dict[str, Any] = dict.fromkeys(LIMITS, 2**19)
    with (
        make_parts(**limits) as parts,
        TestClient(parts.app, base_url="http://127.0.0.1") as client,
    ):
        parts.catalog.upload("cells", make_adapter(1))
        answers = asyncio.run(held_open(cast(FastAPI, client.app), route, 20, 400_000))
        served = client.post("/predict?adapter=cells", content=make_png())

    refused = [answer for answer in answers if answer]
    assert 15 <= len(refused) < 20
    assert {(answer["status"], dict(answer["headers"])[b"retry-after"]) for answer in refused} == {(503, b"1")}
    assert served.status_code == 200


async def held_open(app: FastAPI, route: str, requests: int, size: int) -> list[Any]:
    """The start of each response, or None where the server still reads when all others have had their turns."""
    path, _, query = route.partition("?")
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": query.encode(), "headers": headers}
    answers: list[Any] = [None] * requests
    waiting = asyncio.Event()

    async def ask(number: int) -> None:
        left = size

        async def receive() -> Any:
            nonlocal left
            if not left:
                await waiting.wait()
                return {"type": "http.disconnect"}
            left -= 10_000
            return {"type": "http.request", "body": b" " * 10_000, "more_body": True}

        async def send(message: Any) -> None:
            answers[number] = answers[number] or message

        await app({**scope, "state": {}}, receive, send)

    asked = [asyncio.create_task(ask(number)) for number in range(requests)]
    await asyncio.wait(asked, timeout=2)
    kept = list(answers)
    waiting.set()
    await asyncio.wait(asked)
    return kept
