"""A job's files are complete or not there, and only the worker with the lease can write them."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from lensmount_service.errors import JobConflict, LeaseLost, NotFound, StorageFull, StoredTooMuch
from lensmount_service.jobs.files import CHECKPOINT, JobFiles
from lensmount_service.jobs.records import Lease
from lensmount_service.jobs.rows import job_row
from lensmount_service.jobs.table import JobTable
from lensmount_service.store.database import Database

if TYPE_CHECKING:
    from tests.service.jobs.conftest import Submit

BACKBONE = "sha256:" + "b" * 64  # as in conftest.py


@pytest.fixture
def files(jobs: JobTable, tmp_path: Path) -> JobFiles:
    return JobFiles(tmp_path / "jobs", jobs)


@pytest.fixture
def lease(jobs: JobTable, submit: Submit) -> Lease:
    submit(jobs)
    return claim(jobs)


def claim(jobs: JobTable) -> Lease:
    lease = jobs.claim("w", BACKBONE)
    assert lease is not None
    return lease


def receive(files: JobFiles, lease: Lease, name: str, *chunks: bytes) -> None:
    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    asyncio.run(files.receive(lease.id, lease.token, name, body()))


def read(files: JobFiles, lease: Lease, name: str) -> bytes:
    with files.open(lease.id, name) as file:
        return file.read()


def test_a_received_file_is_listed_with_its_size_and_digest_and_replaced_by_the_next(
    files: JobFiles, lease: Lease
) -> None:
    receive(files, lease, "card.md", b"first")
    receive(files, lease, "card.md", b"sec", b"ond")
    assert read(files, lease, "card.md") == b"second"
    (listed,) = files.list(lease.id)
    assert (listed.name, listed.size_bytes) == ("card.md", 6)
    assert listed.digest == f"sha256:{hashlib.sha256(b'second').hexdigest()}"


def test_the_checkpoint_is_not_listed_and_can_be_dropped_twice(jobs: JobTable, files: JobFiles, lease: Lease) -> None:
    receive(files, lease, CHECKPOINT, b"x")
    assert files.list(lease.id) == ()
    assert read(files, lease, CHECKPOINT) == b"x"
    for _ in range(2):
        with jobs.holding(lease.id, lease.token) as connection:
            files.drop_checkpoint(connection, lease.id)
    with pytest.raises(NotFound, match="found no file checkpoint"):
        files.open(lease.id, CHECKPOINT)


@pytest.mark.parametrize("name", ["secrets.txt", "..", "../card.md", ""])
def test_a_name_that_no_job_file_has_is_refused(files: JobFiles, lease: Lease, name: str) -> None:
    with pytest.raises(NotFound) as refused:
        receive(files, lease, name, b"x")
    assert refused.value.code == "file_not_found"
    with pytest.raises(NotFound):
        files.open(lease.id, name)


def test_a_worker_that_loses_its_lease_while_it_sends_overwrites_nothing(
    files: JobFiles, jobs: JobTable, lease: Lease, tmp_path: Path
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"of the first worker"
        jobs.give_back(lease)
        heir = claim(jobs)

        async def own() -> AsyncIterator[bytes]:
            yield b"of the second worker"

        await files.receive(heir.id, heir.token, "card.md", own())

    with pytest.raises(LeaseLost):
        asyncio.run(files.receive(lease.id, lease.token, "card.md", body()))
    assert [path.read_bytes() for path in (tmp_path / "jobs").rglob("*.*")] == [b"of the second worker"]


def test_a_full_disk_leaves_the_earlier_file(
    files: JobFiles, lease: Lease, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    receive(files, lease, "card.md", b"earlier")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageFull):
        receive(files, lease, "card.md", b"later")
    assert [path.read_bytes() for path in (tmp_path / "jobs").rglob("*.*")] == [b"earlier"]


def bytes_of(jobs: JobTable, lease: Lease) -> int | None:
    with jobs.database.read() as connection:
        return int(job_row(connection, lease.id).file_bytes or 0)


def test_the_bytes_of_all_files_of_a_job_are_counted_and_a_replaced_file_counts_once(
    jobs: JobTable, files: JobFiles, lease: Lease
) -> None:
    receive(files, lease, "card.md", b"first")
    receive(files, lease, CHECKPOINT, b"12345678")
    assert bytes_of(jobs, lease) == 5 + 8
    receive(files, lease, "card.md", b"2nd")
    assert bytes_of(jobs, lease) == 3 + 8
    with jobs.holding(lease.id, lease.token) as connection:
        files.drop_checkpoint(connection, lease.id)
    assert bytes_of(jobs, lease) == 3


def test_a_file_that_its_owner_may_not_store_changes_nothing(
    database: Database, submit: Submit, tmp_path: Path
) -> None:
    def charge(connection: sa.Connection, key: str, owner: str | None, more: int, source: str | None = None) -> None:
        assert key == "default/"
        if more > 4:
            raise StoredTooMuch("found too many bytes. Fix: delete some")

    jobs = JobTable(database, lease_s=30, charge_files=charge)
    files = JobFiles(tmp_path / "jobs", jobs)
    submit(jobs)
    lease = claim(jobs)
    receive(files, lease, "card.md", b"1234")
    with pytest.raises(StoredTooMuch):
        receive(files, lease, "card.md", b"123456789")
    assert read(files, lease, "card.md") == b"1234"
    assert bytes_of(jobs, lease) == 4
    assert [path.name for path in (tmp_path / "jobs" / lease.id).iterdir()] == ["card.md"]


def test_the_files_of_a_job_that_has_ended_are_deleted_and_no_others(
    jobs: JobTable, files: JobFiles, lease: Lease
) -> None:
    receive(files, lease, "card.md", b"first")
    receive(files, lease, CHECKPOINT, b"12345678")
    with pytest.raises(JobConflict, match="Fix: wait for its end"):
        files.delete(lease.id)
    assert read(files, lease, "card.md") == b"first"
    jobs.finish(lease, "failed", error=("training_failed", "no"))
    files.delete(lease.id)
    files.delete(lease.id)
    assert (files.list(lease.id), bytes_of(jobs, lease)) == ((), 0)
    with pytest.raises(NotFound):
        files.open(lease.id, CHECKPOINT)
    with pytest.raises(NotFound):
        files.delete("0" * 32)
