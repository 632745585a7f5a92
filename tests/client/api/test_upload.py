"""An upload in chunks resumes where the server's copy ends."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.client.pets import CHUNK, hurried, make_folder, packed, send_small_chunks

from lensmount_client import BodyTooLarge, Client, ServerUnreachable, UnexpectedResponse, UploadOffsetMismatch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    send_small_chunks(monkeypatch)


def test_progress_counts_bytes_up_to_the_last(server: Any, folder: Path) -> None:
    told: list[tuple[int, int | None]] = []
    with Client(server.url) as client:
        client.datasets.push(folder, progress=lambda *n: told.append(n))
    size = len(packed(folder))
    packing = [done for done, total in told if total is None]
    assert len(packing) == 3
    assert packing == sorted(packing)
    assert told[3:] == [*((at, size) for at in range(0, size, CHUNK)), (size, size)]


def test_a_small_dataset_is_one_chunk(server: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lensmount_client._api import upload as _upload

    monkeypatch.setattr(_upload.upload, "__defaults__", (2**20,))
    size = len(packed(folder))
    with Client(server.url) as client:
        client.datasets.push(folder)
    assert server.training.ranges == [f"bytes 0-{size - 1}/{size}"]


@pytest.mark.parametrize("seed", range(20))
def test_an_upload_resumes_wherever_the_connection_failed(seed: int, server: Any, folder: Path) -> None:
    chance = random.Random(seed)

    def hang_up(size: int) -> int | None:
        """Half of the chunks meet a broken connection: before, within or after their bytes."""
        return chance.choice([None, None, None, 0, chance.randrange(size), -1])

    server.training.hang_up = hang_up
    with hurried(server.url, retries=50) as client:
        dataset = client.datasets.push(folder)
    assert dataset.version == 1
    assert server.training.stored["pets"] == [packed(folder)]


def test_the_next_push_resumes_where_the_last_one_gave_up(server: Any, folder: Path) -> None:
    left = [None, None, 30]
    server.training.hang_up = lambda size: left.pop(0) if left else 0
    with hurried(server.url, retries=0) as client:
        with pytest.raises(ServerUnreachable):
            client.datasets.push(folder)
        server.training.hang_up = lambda size: None
        server.training.ranges.clear()
        client.datasets.push(folder)
    assert server.training.ranges[0].startswith(f"bytes {2 * CHUNK + 30}-")
    assert server.training.stored["pets"] == [packed(folder)]


def test_a_server_that_takes_smaller_chunks_gets_smaller_ones(server: Any, folder: Path) -> None:
    server.training.largest_chunk = CHUNK // 3
    with Client(server.url) as client:
        assert client.datasets.push(folder).version == 1
        server.training.largest_chunk = 1
        with pytest.raises(BodyTooLarge):
            client.datasets.push(folder, name="other")


@pytest.mark.parametrize("received", [-1, 10**9])
def test_a_server_that_claims_more_bytes_than_exist_is_not_believed(received: int, folder: Path) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"received": received}))
    with Client(transport=transport) as client, pytest.raises(UnexpectedResponse, match="received"):
        client.datasets.push(folder)


@pytest.mark.parametrize("status", [202, 409])
def test_an_upload_without_progress_is_given_up(status: int, folder: Path) -> None:
    seen = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        document = {"received": 0, "code": "upload_offset_mismatch", "detail": "0 bytes are here"}
        return httpx.Response(200 if request.method == "GET" else status, json=document)

    with Client(transport=httpx.MockTransport(handle)) as client:
        with pytest.raises((UploadOffsetMismatch, UnexpectedResponse)):
            client.datasets.push(folder)
    assert len(seen) <= 12
