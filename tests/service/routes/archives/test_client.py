"""`client.batch` against a real server: a folder and a dataset give the same rows, and a killed program resumes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from lensmount_client import AsyncClient, Client, InvalidInput, JobFailed
from lensmount_client._types.batch import BATCH_COLUMNS

if TYPE_CHECKING:
    from tests.service.browser import Listening
    from tests.service.conftest import DrawImages, MakeParts, MakeTrusted

IMAGES = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, images: DrawImages) -> Path:
    root = tmp_path_factory.mktemp("pets")
    for name, data in images(0, a=IMAGES // 2, b=IMAGES // 2).items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture(scope="module")
def url(make_shared_parts: MakeParts, make_trusted: MakeTrusted, listening: Listening, folder: Path) -> Iterator[str]:
    with make_shared_parts(executor="eager", max_batch=8) as parts, listening(parts.app) as url, Client(url) as client:
        file = folder.parent / "trusted.safetensors"
        file.write_bytes(make_trusted())
        client.adapters.push(file, "trusted")
        client.datasets.push(folder, "pets")
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_folder_and_a_dataset_give_the_same_rows(client: Client, folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    local = client.batch(folder, "trusted", tmp_path / "local.jsonl")
    remote = client.batch("pets@1", ["trusted"], tmp_path / "remote.parquet", progress=lambda *each: told.append(each))

    assert (
        (local.images, local.rows, local.failed) == (remote.images, remote.rows, remote.failed) == (IMAGES,) * 2 + (0,)
    )
    assert local.adapters == remote.adapters
    rows = {Path(row["file"]).relative_to(folder).as_posix(): row for row in rows_of(tmp_path / "local.jsonl")}
    table = pq.read_table(tmp_path / "remote.parquet").to_pylist()
    assert tuple(table[0]) == BATCH_COLUMNS
    assert sorted(row["file"] for row in table) == sorted(rows)
    for row in table:
        mine = rows[row["file"]]
        assert dict(row["scores"]) == pytest.approx(mine["scores"], abs=1e-5)
        same = ("label", "decision", "set", "error", "version", "digest", "fingerprint")
        assert {name: row[name] for name in same} == {name: mine[name] for name in same}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local.jsonl", "remote.parquet"]


def test_a_killed_program_finds_its_job_again(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    out = tmp_path / "out.csv"
    with monkeypatch.context() as patch:
        patch.setattr("lensmount_client._resources.job.Job.events", killed)
        with pytest.raises(KeyboardInterrupt):
            client.batch("pets", "trusted", out)
    before = len(client.jobs.list())
    with pytest.raises(InvalidInput, match="found another run that was not finished"):
        client.batch("pets", "trusted@1", out)
    assert client.batch("pets", "trusted", out).rows == IMAGES
    assert len(client.jobs.list()) == before


def test_the_async_client_does_the_same(url: str, client: Client, tmp_path: Path) -> None:
    async def run() -> Any:
        async with AsyncClient(url) as own:
            dataset = await own.datasets.get("pets")
            return await own.batch(f"{dataset.name}@{dataset.version}", "trusted", tmp_path / "out.jsonl")

    assert asyncio.run(run()).rows == IMAGES
    assert len(rows_of(tmp_path / "out.jsonl")) == IMAGES


def test_a_job_says_what_it_is_and_what_came_of_it(client: Client) -> None:
    job = client.jobs.predict("pets", "trusted", priority=3).wait()
    assert (job.info.kind, job.info.priority, job.published) == ("predict", 3, False)
    assert job.result is not None
    assert (job.result.images, job.result.rows, job.result.failed) == (IMAGES, IMAGES, 0)
    assert [file.name for file in job.files()] == ["results.jsonl"]
    job.delete_files()
    assert job.files() == []


def test_a_job_that_fails_is_told(client: Client, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lensmount_service.errors import Unusable
    from lensmount_service.routes.archives.answers import ArchiveAnswers

    async def fails(*_: Any) -> Any:
        raise Unusable("the adapter is damaged", code="adapter_corrupt")

    with monkeypatch.context() as patch:
        patch.setattr(ArchiveAnswers, "compute", fails)
        with pytest.raises(JobFailed, match="the adapter is damaged"):
            client.batch("pets", "trusted", tmp_path / "out.csv")
    assert client.batch("pets", "trusted", tmp_path / "out.csv").rows == IMAGES  # the job is tried again
