from __future__ import annotations

import asyncio
import random
import re
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from lensmount_service.errors import BodyTooLarge
from lensmount_service.web.bodies import AT_ONCE_BYTES, off_loop, read_multipart, read_raw

if TYPE_CHECKING:
    import httpx2
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
async def test_work_on_a_large_body_leaves_the_event_loop() -> None:
    here = threading.get_ident()
    assert await off_loop(AT_ONCE_BYTES - 1, threading.get_ident) == here
    assert await off_loop(AT_ONCE_BYTES, threading.get_ident) != here


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


TYPES: dict[str, list[tuple[str, bytes]]] = {
    "none": [],
    "empty": [("Content-Type", b"")],
    "spaces": [("Content-Type", b"   ")],
    "only a semicolon": [("Content-Type", b";")],
    "JSON": [("Content-Type", b"application/json")],
    "JSON with an unknown charset": [("Content-Type", b"application/json; charset=nothing")],
    "a form": [("Content-Type", b"application/x-www-form-urlencoded")],
    "no boundary": [("Content-Type", b"multipart/form-data")],
    "an empty boundary": [("Content-Type", b"multipart/form-data; boundary=")],
    "a quoted empty boundary": [("Content-Type", b'multipart/form-data; boundary=""')],
    "an open quote": [("Content-Type", b'multipart/form-data; boundary="B')],
    "a long boundary": [("Content-Type", b"multipart/form-data; boundary=" + b"B" * 5000)],
    "a boundary that is not ASCII": [("Content-Type", b"multipart/form-data; boundary=\xff\xfe")],
    "a boundary in parts": [("Content-Type", b"multipart/form-data; boundary*0=B; boundary*1=C")],
    "an encoded boundary": [("Content-Type", b"multipart/form-data; boundary*=utf-8''B%00")],
    "a charset of bytes": [("Content-Type", b"multipart/form-data; boundary=B; charset=hex")],
    "a charset that fails": [("Content-Type", b"multipart/form-data; boundary=B; charset=undefined")],
    "a charset of names": [("Content-Type", b"multipart/form-data; boundary=B; charset=idna")],
    "another multipart": [("Content-Type", b"multipart/mixed; boundary=B")],
    "nearly multipart": [("Content-Type", b"multipart/form-dataX; boundary=B")],
    "bytes": [("Content-Type", b"\xff\xfe\x80")],
    "twice the same": [("Content-Type", b"multipart/form-data; boundary=B")] * 2,
    "twice": [("Content-Type", b"multipart/form-data; boundary=B"), ("Content-Type", b"image/png")],
    "twice, the other way round": [
        ("Content-Type", b"image/png"),
        ("Content-Type", b"multipart/form-data; boundary=B"),
    ],
}
OTHERS: dict[str, list[tuple[str, bytes]]] = {
    "a length of 5,000 digits": [("Content-Length", b"9" * 5000)],
    "a negative length": [("Content-Length", b"-1")],
    "a length in Arabic digits": [("Content-Length", "٣".encode("latin-1", "replace"))],
    "an odd Accept": [("Accept", b"\xff;q=9,,;;image/*;q=x")],
    "an odd language": [("Accept-Language", b"\xff")],
    "an odd encoding of the body": [("Content-Encoding", b"\xff, gzip")],
    "an odd range of content": [("Content-Range", b"bytes 5-1/*"), ("Content-Range", b"\xff")],
    "an odd range": [("Range", b"bytes=9-1,x-,-"), ("Range", b"\xff")],
    "an odd lease": [("Lensmount-Lease", b"\xff" * 32)],
    "an odd key": [("Idempotency-Key", b"\x80\xff")],
    "an odd token": [("Authorization", b"\xff \xfe")],
    "an odd event": [("Last-Event-ID", b"9" * 5000)],
    "an odd cookie": [("Cookie", b"=;=\xff")],
    "an odd origin": [("Origin", b"http://127.0.0.1:99999999999999")],
    "an odd condition": [("If-None-Match", b'"\xff'), ("If-Modified-Since", b"yesterday\xff"), ("If-Range", b"\xff")],
    "odd names": [("X-Forwarded-For", b"\xff"), ("Expect", b"\xff"), ("Connection", b"\xff")],
}
BODIES = [b"", b"x", b'{"version": 1}', b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--B--\r\n']


def routes_of(app: Any) -> list[tuple[str, str]]:
    """Every method and path of the app, with values that lead nowhere."""
    values = {"digest": f"sha256:{'0' * 64}", "job_id": "0" * 32, "version": "1"}
    paths = app.openapi()["paths"]
    return [
        (method.upper(), re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], "nothing"), path))
        for path, methods in paths.items()
        for method in methods
    ]


@dataclass(frozen=True)
class Asked:
    method: str
    url: httpx2.URL
    headers: list[tuple[bytes, bytes]]
    body: bytes


async def statuses_of(app: Any, asked: list[Asked]) -> list[int]:
    """The statuses of the app's answers. A client would do as much work as the app, 7,000 times."""
    return [await status_of(app, one) for one in asked]


async def status_of(app: Any, asked: Asked) -> int:
    statuses: list[int] = []
    answered, sent = asyncio.Event(), False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            await answered.wait()
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": asked.body, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        elif not message.get("more_body", False):
            answered.set()

    scope = {
        **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": ""},
        **{"method": asked.method, "path": asked.url.path, "raw_path": asked.url.raw_path.partition(b"?")[0]},
        **{"query_string": asked.url.query, "headers": asked.headers, "state": {}},
        **{"client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 80)},
    }
    await app(scope, receive, send)
    (status,) = statuses
    return status


@pytest.mark.parametrize("case", [*TYPES, *OTHERS])
def test_no_header_of_a_request_is_a_500_on_any_route(shared_client: TestClient, case: str) -> None:
    routes = routes_of(shared_client.app)
    assert ("POST", "/adapters") in routes
    assert ("POST", "/predict") in routes
    portal = shared_client.portal
    assert portal is not None

    asked = []
    for method, path in routes:
        for body in BODIES if method in ("POST", "PUT") and case in TYPES else BODIES[1:2]:
            request = shared_client.build_request(method, path, content=body, params={"adapter": "cells"})
            if case in TYPES:
                request.headers.pop("content-type", None)
            for name, _ in (TYPES | OTHERS)[case]:
                request.headers.pop(name, None)
            headers = [*request.headers.raw, *((name.encode(), value) for name, value in (TYPES | OTHERS)[case])]
            asked.append(Asked(method, request.url, [(name.lower(), value) for name, value in headers], body))
    statuses = portal.call(statuses_of, shared_client.app, asked)
    assert [(one, status) for one, status in zip(asked, statuses, strict=True) if status >= 500] == []


def test_an_adapter_without_a_content_type_is_refused_and_the_advice_works(
    shared_client: TestClient, make_adapter: MakeAdapter
) -> None:
    refused = shared_client.post("/adapters", content=make_adapter(77))

    assert (refused.status_code, refused.json()["code"]) == (400, "multipart_malformed")
    assert "found no Content-Type, expected multipart/form-data with a part `file`" in refused.json()["detail"]
    assert "Fix: with curl, -F file=@FILE" in refused.json()["detail"]
    sent = shared_client.post("/adapters", files={"file": make_adapter(77)}, data={"name": "advised"})  # as -F does
    assert sent.status_code == 201


PARTS = {
    "a part without a name": b"--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--\r\n",
    "a part without headers": b"--B\r\n\r\nx\r\n--B--\r\n",
    "a name of odd bytes": b'--B\r\nContent-Disposition: form-data; name="\xff\xfe"\r\n\r\nx\r\n--B--\r\n',
    "an encoded file name": b"--B\r\nContent-Disposition: form-data; name=file; filename*=x''%ff\r\n\r\nx\r\n--B--\r\n",
    "a file name in parts": b"--B\r\nContent-Disposition: form-data; name=file; filename*1=a\r\n\r\nx\r\n--B--\r\n",
    "a header without a colon": b"--B\r\nContent-Disposition\r\n\r\nx\r\n--B--\r\n",
    "a name twice": b"--B\r\nContent-Disposition: form-data; name=file; name=b\r\n\r\nx\r\n--B--\r\n",
    "bytes before the first part": b"xx--B\r\n\r\n--B--\r\n",
    "nothing but the end": b"--B--\r\n",
}


@pytest.mark.parametrize("case", PARTS)
def test_no_header_of_a_part_is_a_500(shared_client: TestClient, case: str) -> None:
    for path in ("/adapters", "/predict?adapter=cells"):
        answer = shared_client.post(
            path, content=PARTS[case], headers={"Content-Type": "multipart/form-data; boundary=B"}
        )
        assert 400 <= answer.status_code < 500
