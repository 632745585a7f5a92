"""Datasets by both clients: push, report, pull, delete."""

from __future__ import annotations

import asyncio
import random
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.client.pets import make_folder, packed, send_small_chunks

from lensmount_client import (
    AsyncClient,
    Client,
    DatasetInUse,
    DatasetNotFound,
    DatasetTooSmall,
    DatasetWarning,
    DownloadMismatch,
    InvalidInput,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    send_small_chunks(monkeypatch)


def test_a_push_returns_the_report_of_the_server(server: Any, folder: Path) -> None:
    server.training.warnings = [{"code": "few_images", "message": "cat has 2 images"}]
    with Client(server.url) as client:
        dataset = client.datasets.push(folder)
    assert (dataset.name, dataset.version, dataset.images) == ("pets", 1, 3)
    assert dataset.reference == "pets@1"
    assert dataset.classes == {"cat": 2, "dog": 1}
    assert dataset.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    report = dataset.report
    assert report.warnings == (DatasetWarning("few_images", "cat has 2 images"),)
    assert (report.splits, report.duplicates, report.unreadable) == ({"train": 2, "test": 1}, 2, 1)
    assert report.raw["formats"] == {"PNG": 3}
    assert dataset.raw["report"] == report.raw
    assert (dataset.left_out, dataset.notes) == ({".txt": 1}, ())
    assert server.training.stored["pets"] == [packed(folder)]


def test_the_same_images_pushed_twice_are_one_version_and_sent_once(server: Any, folder: Path) -> None:
    with Client(server.url) as client:
        first = client.datasets.push(folder)
        server.training.ranges.clear()
        assert client.datasets.push(folder) == first
        assert server.training.ranges == [f"bytes {first.size_bytes - 1}-{first.size_bytes - 1}/{first.size_bytes}"]
        assert [dataset.version for dataset in client.datasets.list()] == [1]
        (folder / "dog" / "d.png").write_bytes(b"new")
        assert client.datasets.push(folder).version == 2


def test_names_are_those_of_the_folder_or_zip_and_checked_before_sending(server: Any, tmp_path: Path) -> None:
    for name in ("cat/a.png", "dog/b.png"):
        (tmp_path / "My Pets" / name).parent.mkdir(parents=True)
        (tmp_path / "My Pets" / name).write_bytes(b"x")
    (tmp_path / "zoo.zip").write_bytes(packed(tmp_path / "My Pets"))
    with Client(server.url) as client:
        with pytest.raises(InvalidInput, match="dataset name: found 'My Pets'"):
            client.datasets.push(tmp_path / "My Pets")
        assert client.datasets.push(tmp_path / "My Pets", name="pets").name == "pets"
        assert client.datasets.push(tmp_path / "zoo.zip").name == "zoo"


def test_a_refusal_of_the_server_is_a_typed_error(server: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        archive.writestr("a.png", b"x")
    with Client(server.url) as client, pytest.raises(DatasetTooSmall):
        client.datasets.push(tmp_path / "pets.zip")


def test_get_list_delete_and_pull(server: Any, folder: Path, tmp_path: Path) -> None:
    with Client(server.url, max_response_bytes=2000) as client:
        client.datasets.push(folder)
        (folder / "dog" / "d.png").write_bytes(b"large" * 10_000)
        client.datasets.push(folder)
        assert [d.reference for d in client.datasets.list()] == ["pets@2"]
        assert client.datasets.get("pets", version=1).images == 3
        pulled = client.datasets.pull("pets", tmp_path)
        assert pulled.path == tmp_path / "pets.zip"
        assert pulled.path.read_bytes() == packed(folder)
        first = client.datasets.pull("pets", tmp_path / "first.zip", version=1)
        assert first.digest == client.datasets.get("pets", 1).digest
        client.jobs.submit("pets", "pets")
        with pytest.raises(DatasetInUse):
            client.datasets.delete("pets")
        client.jobs.list()[0].cancel()
        client.datasets.delete("pets")
        with pytest.raises(DatasetNotFound):
            client.datasets.get("pets")
        assert client.datasets.undelete("pets").reference == "pets@2"
        client.datasets.delete("pets", purge=True)
        with pytest.raises(DatasetNotFound):
            client.datasets.undelete("pets")


def test_a_pull_of_other_bytes_keeps_the_existing_file(server: Any, folder: Path, tmp_path: Path) -> None:
    with Client(server.url) as client:
        client.datasets.push(folder)
    target = tmp_path / "target" / "pets.zip"
    target.parent.mkdir()
    target.write_bytes(b"before")

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/file"):
            return httpx.Response(200, content=b"other", headers={"ETag": f'"sha256:{"0" * 64}"'})
        return httpx.Response(200, json=server.training.dataset("pets", 1))

    with Client(transport=httpx.MockTransport(handle)) as client, pytest.raises(DownloadMismatch):
        client.datasets.pull("pets", target)
    assert [path.read_bytes() for path in target.parent.iterdir()] == [b"before"]


def test_the_async_client_does_the_same(server: Any, folder: Path, tmp_path: Path) -> None:
    chance = random.Random(1)
    server.training.hang_up = lambda size: chance.choice([None, 0, -1, size // 2])

    async def nap(seconds: float) -> None:
        return None

    async def run() -> None:
        async with AsyncClient(server.url, retries=50, sleep=nap) as client:
            dataset = await client.datasets.push(folder)
            assert dataset.reference == "pets@1"
            assert [d.name for d in await client.datasets.list()] == ["pets"]
            assert (await client.datasets.get("pets")).images == 3
            assert (await client.datasets.pull("pets", tmp_path)).digest == dataset.digest
            await client.datasets.delete("pets")
            assert (await client.datasets.undelete("pets")).name == "pets"
            await client.datasets.delete("pets")

    asyncio.run(run())
    assert (tmp_path / "pets.zip").read_bytes() == packed(folder)
