"""A download replaces the existing file only by a complete new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.client.wire import digest_of

from lensmount_client import AdapterMismatch, AdapterNotFound, CannotWrite, Client, ResponseTooLarge, UnexpectedResponse


@pytest.mark.parametrize(
    ("etag", "error"),
    [(f'"{digest_of(b"other")}"', AdapterMismatch), ('"abc"', UnexpectedResponse), ("", UnexpectedResponse)],
)
def test_a_pull_with_a_wrong_digest_keeps_the_existing_file(etag: str, error: type[Exception], tmp_path: Path) -> None:
    target = tmp_path / "malaria.safetensors"
    target.write_bytes(b"before")
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=b"bytes", headers={"ETag": etag}))
    with Client(transport=transport) as client, pytest.raises(error):
        client.adapters.pull("malaria", target)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def test_an_interrupted_pull_starts_again_with_an_empty_file(tmp_path: Path) -> None:
    def broken() -> Any:
        yield b"half of"
        raise httpx.ReadError("reset")

    whole, attempts = b"the whole file", []

    def handle(request: httpx.Request) -> httpx.Response:
        attempts.append(request)
        content = broken() if len(attempts) == 1 else whole
        return httpx.Response(200, content=content, headers={"ETag": f'W/"{digest_of(whole)}"'})

    with Client(transport=httpx.MockTransport(handle), sleep=lambda s: None) as client:
        pulled = client.adapters.pull("malaria", tmp_path / "m")
    assert (pulled.path.read_bytes(), len(attempts)) == (whole, 2)


def test_a_problem_document_never_ends_up_in_the_file(server: Any, tmp_path: Path) -> None:
    with Client(server.url) as client, pytest.raises(AdapterNotFound):
        client.adapters.pull("none", tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_pull_beyond_the_limit_or_into_nowhere_is_an_error(server: Any, tmp_path: Path) -> None:
    with Client(server.url, max_response_bytes=5) as client:
        with pytest.raises(ResponseTooLarge, match="max_response_bytes"):
            client.adapters.pull("malaria", tmp_path)
        with pytest.raises(CannotWrite, match="No such file"):
            client.adapters.pull("malaria", tmp_path / "none" / "m")
    assert list(tmp_path.iterdir()) == []
