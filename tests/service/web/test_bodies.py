from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from lensmount_service.errors import BodyTooLarge
from lensmount_service.web.bodies import read_multipart, read_raw

if TYPE_CHECKING:
    pass
    from tests.service.conftest import MakeAdapter, MakeParts


def request_of(chunks: Sequence[bytes], headers: Iterable[tuple[bytes, bytes]] = ()) -> tuple[Request, list[int]]:
    taken = []

    async def receive() -> dict[str, Any]:
        taken.append(1)
        body = chunks[len(taken) - 1] if len(taken) <= len(chunks) else b""
        return {"type": "http.request", "body": body, "more_body": len(taken) < len(chunks)}

    scope = {"type": "http", "method": "POST", "path": "/", "headers": list(headers), "query_string": b""}
    return Request(scope, receive), taken


@pytest.mark.anyio
async def test_a_body_over_the_limit_is_refused_as_soon_as_it_exceeds_it() -> None:
    request, taken = request_of([b"x" * 1000] * 1000)

    with pytest.raises(BodyTooLarge):
        await read_raw(request, 2500)
    assert len(taken) == 3


@pytest.mark.anyio
async def test_a_declared_length_over_the_limit_is_refused_before_anything_is_read() -> None:
    request, taken = request_of([b"x"], [(b"content-length", b"1000000000000")])

    with pytest.raises(BodyTooLarge):
        await read_raw(request, 2500)
    assert taken == []


@pytest.mark.anyio
async def test_a_body_at_the_limit_is_read_completely() -> None:
    request, _ = request_of([b"ab", b"cd"])

    assert await read_raw(request, 4) == b"abcd"


@pytest.mark.anyio
async def test_a_big_part_is_read_in_memory_byte_for_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a temporary file was opened, expected none")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)  # used when a part is spooled to disk
    image = random.Random(0).randbytes(3 * 2**20)
    head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    body = head + image + b"\r\n--B--\r\n"
    chunks = [body[start : start + 65_536] for start in range(0, len(body), 65_536)]
    request, _ = request_of(chunks, [(b"content-type", b"multipart/form-data; boundary=B")])

    parts, fields = await read_multipart(request, 2**24, 1)

    assert [(part.data == image, part.name) for part in parts] == [(True, "a.jpg")]
    assert fields == {}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_an_upload_over_the_limit_answers_413_and_the_server_continues(
    make_parts: MakeParts, make_adapter: MakeAdapter
) -> None:
    size = len(make_adapter(1))
    with make_parts(max_adapter_bytes=size, max_image_bytes=1024) as parts:
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            assert client.put("/adapters/cells", content=make_adapter(1)).status_code == 201
            assert client.put("/adapters/big", content=b"x" * (size + 1)).json()["code"] == "body_too_large"
            refused = client.post("/predict?adapter=cells", content=b"x" * 2000)
            assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
            assert refused.headers["Connection"] == "close"
            assert client.get("/health/ready").status_code == 200
