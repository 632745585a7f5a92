"""The files that jobs leave on disk: reports for everybody, and the checkpoint from which the next attempt resumes.

A file is received under a temporary name. It is renamed inside a transaction that checks the sender's lease, so a
worker that has lost its job cannot overwrite what its successor wrote. With an object store the files are there, for
all servers (shared_files.py). The journal of a job that a server does itself stays in that server's folder: another
server that takes the job over labels the images again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import sqlalchemy as sa
import structlog

from lensmount_adapters.atomic import fsync_folder
from lensmount_adapters.faults import fault
from lensmount_service.errors import NotFound, Unavailable
from lensmount_service.jobs.records import ENDED
from lensmount_service.jobs.rows import job_row
from lensmount_service.jobs.shared_files import SharedJobFiles
from lensmount_service.jobs.table import JobTable
from lensmount_service.store.faults import storage
from lensmount_service.store.precondition import ANY, Precondition

log = structlog.get_logger(__name__)

CHECKPOINT = "checkpoint"
MEDIA_TYPES = {
    "adapter.safetensors": "application/octet-stream",
    "card.md": "text/markdown; charset=utf-8",
    "report.html": "text/html; charset=utf-8",
    "metrics.json": "application/json",
    "metrics.png": "image/png",
    "log.txt": "text/plain; charset=utf-8",
    "results.jsonl": "application/x-ndjson",
}


@dataclass(frozen=True, slots=True)
class JobFile:
    """One file of a job."""

    name: str
    size_bytes: int
    digest: str


class JobFiles:
    """`await files.receive(job_id, token, "card.md", chunks)`, `files.open(job_id, "card.md")`."""

    def __init__(self, folder: Path, jobs: JobTable, shared: SharedJobFiles | None = None) -> None:
        self._folder = folder
        self._jobs = jobs
        self.shared = shared
        folder.mkdir(parents=True, exist_ok=True)

    async def receive(self, job_id: str, token: str, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Store a file, durable before this returns.

        Raises NotFound (`job_not_found`, `file_not_found`), LeaseLost, StoredTooMuch or StorageFull, and then nothing
        has changed.
        """
        _require_known(name)
        temporary = await asyncio.to_thread(self._begin, job_id, token, name)
        try:
            with temporary.open("wb") as file:
                async for chunk in chunks:
                    with storage("the files of jobs"):
                        fault("job_files.write")
                        await asyncio.to_thread(file.write, chunk)
                await asyncio.to_thread(self._keep, job_id, token, name, file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _begin(self, job_id: str, token: str, name: str) -> Path:
        with self._jobs.holding(job_id, token):
            pass  # refuse before the body is read; the check that counts is the one in `_keep`
        folder = self._folder / job_id
        with storage("the files of jobs"):
            folder.mkdir(exist_ok=True)
            fault("job_files.create")
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".tmp")
            os.close(handle)
        return Path(temporary)

    def _keep(self, job_id: str, token: str, name: str, file: BinaryIO) -> None:
        with storage("the files of jobs"):
            file.flush()
            fault("job_files.fsync")
            os.fsync(file.fileno())
        if self.shared is not None:
            self._share(self.shared, job_id, token, name, Path(file.name))
            return
        with self._jobs.holding(job_id, token) as connection, storage("the files of jobs"):
            others = sum(size for each, size in self._sizes(job_id).items() if each != name)
            self._jobs.charge_files(connection, job_id, others + Path(file.name).stat().st_size)
            fault("job_files.rename")
            target = self._folder / job_id / name
            Path(file.name).replace(target)
            fsync_folder(target.parent)

    def _share(self, shared: SharedJobFiles, job_id: str, token: str, name: str, temporary: Path) -> None:
        """Store the file in the object store without holding up other writers; then check lease and quota."""
        with self._jobs.holding(job_id, token) as connection:
            attempt = job_row(connection, job_id).attempt
        others = sum(size for each, size in self._sizes(job_id).items() if each != name)
        file = shared.add(job_id, name, attempt, temporary)
        try:
            fault("job_files.shared")
            with self._jobs.holding(job_id, token) as connection:
                self._jobs.charge_files(connection, job_id, others + file.size_bytes)
        except BaseException:
            with contextlib.suppress(Unavailable):
                shared.remove([file])
            raise
        temporary.unlink()
        with _left_for_gc(job_id):
            shared.drop_before(file)

    def journal(self, job_id: str) -> Path:
        """The checkpoint of a job that a server does itself: a line for each image, complete ones only."""
        path = self._folder / job_id / CHECKPOINT
        with storage("the files of jobs"):
            path.parent.mkdir(exist_ok=True)
            with path.open("ab+") as file:
                file.seek(0)
                file.truncate(sum(len(line) for line in file if line.endswith(b"\n")))
        return path

    def append(self, job_id: str, token: str, data: bytes) -> None:
        """Add to the journal, durable before this returns. Raises LeaseLost, StoredTooMuch or StorageFull."""
        with self._jobs.holding(job_id, token) as connection, storage("the files of jobs"):
            path = self._folder / job_id / CHECKPOINT
            self._jobs.charge_files(connection, job_id, sum(self._local_sizes(job_id).values()) + len(data))
            fault("job_files.write")
            with path.open("ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

    def put(self, job_id: str, token: str, name: str, lines: Iterable[bytes]) -> None:
        """Store a file that a server made itself. Raises LeaseLost, StoredTooMuch or StorageFull."""
        temporary = self._begin(job_id, token, name)
        try:
            with temporary.open("wb") as file:
                with storage("the files of jobs"):
                    file.writelines(lines)
                self._keep(job_id, token, name, file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def delete(self, job_id: str, expected: Precondition = ANY) -> None:
        """Delete all files of a job that has ended. A second call changes nothing.

        Raises NotFound (`job_not_found`), PreconditionFailed or JobConflict (`job_not_finished`).
        """
        with self._jobs.ended(job_id, expected) as connection, storage("the files of jobs"):
            for name in self._local_sizes(job_id):
                (self._folder / job_id / name).unlink(missing_ok=True)
            if self.shared is not None:
                self.shared.remove(self.shared.all(job_id, quick=True), quick=True)
            self._jobs.count_files(connection, job_id, 0)

    def open(self, job_id: str, name: str) -> BinaryIO:
        """A file, which stays readable even if it is replaced or removed. The caller closes it.

        Raises NotFound (`file_not_found`) if the job has no such file.
        """
        _require_known(name)
        file = self._opened(job_id, name)
        if file is None:
            raise NotFound(f"found no file {name} of this job. Fix: see GET /jobs/{{id}}/files", code="file_not_found")
        return file

    def list(self, job_id: str) -> tuple[JobFile, ...]:
        """The files that a job has left, without the checkpoint."""
        found = []
        shared = {} if self.shared is None else self.shared.latest(job_id)
        for name in MEDIA_TYPES:
            if name in shared:
                found.append(JobFile(name, shared[name].size_bytes, shared[name].digest))
            elif (file := self._local(job_id, name)) is not None:
                with file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                    found.append(JobFile(name, file.tell(), f"sha256:{digest}"))
        return tuple(found)

    def drop_checkpoint(self, connection: sa.Connection, job_id: str) -> None:
        """In the transaction in which the job succeeds. If that fails, a next attempt starts from the first epoch."""
        (self._folder / job_id / CHECKPOINT).unlink(missing_ok=True)
        with _left_for_gc(job_id):
            if self.shared is not None:
                of_job = self.shared.all(job_id, quick=True)
                self.shared.remove([file for file in of_job if file.name == CHECKPOINT], quick=True)
            self._jobs.count_files(connection, job_id, sum(self._sizes(job_id, quick=True).values()))

    def fill(self) -> int:
        """Give the object store the finished files that only this folder has, as after a restore. Returns how many."""
        if self.shared is None:
            return 0
        there = {(file.job, file.name) for file in self.shared.all()}
        local = [path for path in self._folder.glob("*/*") if path.name in MEDIA_TYPES]
        lacking = [path for path in local if (path.parent.name, path.name) not in there]
        for path in lacking:
            self.shared.add(path.parent.name, path.name, 0, path)
        return len(lacking)

    def remove_shared_orphans(self, before: float, keep_s: float | None) -> int:
        """Remove files of the object store of jobs that are gone or ended long ago, and checkpoints without a use.

        `before` and `keep_s` are as in gc.py. Returns how many. Raises Unavailable.
        """
        if self.shared is None:
            return 0
        files, states = self.shared.all(), self._jobs.ids()
        old = None if keep_s is None else min(before, time.time() - keep_s)
        gone = []
        for file, after in zip(files, [*files[1:], None], strict=True):
            replaced = after is not None and (after.job, after.name) == (file.job, file.name)
            state = states.get(file.job)
            unneeded = replaced or state is None or (file.name == CHECKPOINT and state == "succeeded")
            past = old is not None and state in ENDED and file.modified_at < old
            if past or (unneeded and file.modified_at < before):
                gone.append(file)
        self.shared.remove(gone)
        for job_id in {file.job for file in gone} & states.keys():
            self.count(job_id)
        return len(gone)

    def count(self, job_id: str) -> None:
        """Files of the job were removed by others."""
        nbytes = sum(self._sizes(job_id).values())
        with self._jobs.database.write() as connection:
            self._jobs.count_files(connection, job_id, nbytes)

    def _sizes(self, job_id: str, *, quick: bool = False) -> dict[str, int]:
        """Bytes by name, of the files that are there."""
        shared = {} if self.shared is None else self.shared.latest(job_id, quick=quick)
        return self._local_sizes(job_id) | {name: file.size_bytes for name, file in shared.items()}

    def _local_sizes(self, job_id: str) -> dict[str, int]:
        found = {}
        for name in (*MEDIA_TYPES, CHECKPOINT):
            with contextlib.suppress(FileNotFoundError):
                found[name] = (self._folder / job_id / name).stat().st_size
        return found

    def _opened(self, job_id: str, name: str) -> BinaryIO | None:
        with storage("the files of jobs"):
            found = None if self.shared is None else self.shared.open(job_id, name)
        return self._local(job_id, name) if found is None else found

    def _local(self, job_id: str, name: str) -> BufferedReader | None:
        """The file; None if there is none. It may be removed at any moment, so nobody asks first."""
        with storage("the files of jobs"):
            try:
                return (self._folder / job_id / name).open("rb")
            except FileNotFoundError:
                return None


@contextlib.contextmanager
def _left_for_gc(job_id: str) -> Iterator[None]:
    """What the object store does not remove now stays there until `lensmount gc --blobs`."""
    try:
        yield
    except Unavailable as error:
        log.warning("files of a job left for lensmount gc", job=job_id, reason=str(error))


def _require_known(name: str) -> None:
    if name not in MEDIA_TYPES and name != CHECKPOINT:
        raise NotFound(
            f"found no file of that name, expected one of {', '.join(MEDIA_TYPES)}. Fix: see GET /jobs/{{id}}/files",
            code="file_not_found",
        )
