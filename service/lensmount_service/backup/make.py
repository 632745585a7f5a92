"""Makes a backup while the server runs: a snapshot of the database, and every file that the snapshot refers to.

A file is complete before its row is committed, so what a snapshot refers to is there, unless it was purged since. Then
the snapshot is taken again. Files that are missing or damaged for good are listed in the manifest.
"""

from __future__ import annotations

import datetime
import errno
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from lensmount_client._version import __version__
from lensmount_service.backup.folder import BackupFolder, FileDamaged
from lensmount_service.backup.manifest import FORMAT, Absent, BackupManifest, Entry, name_of
from lensmount_service.errors import Unavailable
from lensmount_service.jobs.files import CHECKPOINT, MEDIA_TYPES
from lensmount_service.jobs.schema import job_table
from lensmount_service.jobs.shared_files import SharedJobFiles
from lensmount_service.repair.inventory import Kind, Needed, needed_files, reading_file
from lensmount_service.repair.shelves import FOLDER_OF, Shelf, pieces_of
from lensmount_service.state_folder import DATABASE
from lensmount_service.store.database import SCHEMA_VERSION, Database
from lensmount_service.store.faults import storage

SNAPSHOTS = 3  # at most, if files that the snapshot refers to are purged meanwhile


@dataclass(frozen=True, slots=True)
class Made:
    """A finished backup: its manifest, the path of that, and how much was new in the folder."""

    manifest: BackupManifest
    path: Path
    new_files: int
    new_bytes: int
    pruned: int


@dataclass
class BackupMaker:
    """`BackupMaker(state, database, shelves, BackupFolder(out)).make()`.

    With `verify`, files that the folder already has are read again, and damaged ones are replaced.
    """

    state: Path
    database: Database
    shelves: Mapping[Kind, Shelf]
    folder: BackupFolder
    verify: bool = False
    job_files: SharedJobFiles | None = None  # those in an object store
    new_files: int = field(default=0, init=False)
    new_bytes: int = field(default=0, init=False)

    def make(self, keep: int | None = None) -> Made:
        """Make a backup; with `keep`, then remove all but the newest ones.

        Raises StoreDamaged for a damaged database, StorageFull or Unavailable; then the older backups are as before.
        """
        if self.folder.path.resolve().is_relative_to(self.state.resolve()):
            raise Unavailable(
                f"found the folder {self.folder.path} inside the state folder, expected one on another disk. "
                "Fix: name a folder outside of it",
                code="store_unavailable",
            )
        with self.folder.writing():
            before = self.folder.latest()
            files, absent, schema = self._files(before.files if before else {})
            at = datetime.datetime.now(datetime.UTC)
            manifest = BackupManifest(
                format=FORMAT,
                lensmount=__version__,
                created_at=at.isoformat(timespec="seconds").replace("+00:00", "Z"),
                schema_version=schema,
                database="postgresql" if self.database.file is None else "sqlite",
                files=dict(sorted(files.items())),
                absent=absent,
            )
            text = manifest.model_dump_json(indent=1)
            path = self.folder.commit(name_of(text, at), text)
            pruned = self.folder.prune(keep) if keep else 0
        return Made(manifest, path, self.new_files, self.new_bytes, pruned)

    def _files(self, before: Mapping[str, Entry]) -> tuple[dict[str, Entry], list[Absent], int]:
        for attempt in range(SNAPSHOTS):
            files: dict[str, Entry] = {}
            absent: list[Absent] = []
            with self._snapshot(files) as connection:
                needed, jobs, schema = needed_files(connection), _job_ids(connection), _schema_of(connection)
            for each in needed.values():
                self._keep_needed(each, files, absent)
            if not absent or attempt + 1 == SNAPSHOTS or self._still_needed(absent):
                break
        for path in self._others(jobs):
            self._keep_other(path, files, before)
        self._keep_shared(set(jobs), files)
        return files, absent, schema

    @contextmanager
    def _snapshot(self, files: dict[str, Entry]) -> Iterator[sa.Connection]:
        """A connection to the copy of an SQLite file, which becomes a file of the backup; or PostgreSQL's snapshot."""
        if self.database.file is None:
            with self.database.read() as connection:
                yield connection
            return
        with tempfile.TemporaryDirectory(dir=self.folder.path, prefix=".snapshot-") as name:
            copy = Path(name) / DATABASE
            with storage("the backup"):
                self.database.copy_to(copy)
            with copy.open("rb") as file:
                files[DATABASE] = self._add(pieces_of(file))
            with reading_file(copy) as connection:
                yield connection

    def _add(self, pieces: Iterable[bytes], digest: str | None = None, modified_ns: int | None = None) -> Entry:
        entry = self.folder.add(pieces, digest, modified_ns)
        self.new_files += 1
        self.new_bytes += entry.size_bytes
        return entry

    def _keep_needed(self, needed: Needed, files: dict[str, Entry], absent: list[Absent]) -> None:
        folder, suffix = FOLDER_OF[needed.kind]
        path = f"{folder}/{needed.digest.removeprefix('sha256:')}{suffix}"
        if self.folder.holds(needed.digest, read=self.verify):
            files[path] = Entry(digest=needed.digest, size_bytes=self.folder.size_of(needed.digest))
            return
        try:
            files[path] = self._add(self.shelves[needed.kind].pieces(needed.digest), needed.digest)
        except (FileDamaged, OSError) as error:
            if isinstance(error, OSError) and error.errno not in (errno.ENOENT, errno.EIO):
                raise
            absent.append(Absent(path=path, digest=needed.digest, title=needed.title))

    def _still_needed(self, absent: list[Absent]) -> bool:
        with self.database.read() as connection:
            digests = {each.digest for each in needed_files(connection).values()}
        return all(each.digest in digests for each in absent)

    def _others(self, jobs: list[str]) -> Iterator[Path]:
        """The files of jobs and of the audit log."""
        for job in jobs:
            for name in (*MEDIA_TYPES, CHECKPOINT):
                yield self.state / "jobs" / job / name
        yield from sorted((self.state / "audit").glob("audit-*.jsonl"))

    def _keep_shared(self, jobs: set[str], files: dict[str, Entry]) -> None:
        """The files of jobs in the object store. One that is replaced meanwhile is left out."""
        if self.job_files is None:
            return
        latest = {(file.job, file.name): file for file in self.job_files.all() if file.job in jobs}
        for (job, name), file in latest.items():
            try:
                if not self.folder.holds(file.digest, read=self.verify):
                    self._add(self.job_files.pieces(file), file.digest)
            except (FileDamaged, FileNotFoundError):
                continue
            files[f"jobs/{job}/{name}"] = Entry(digest=file.digest, size_bytes=file.size_bytes)

    def _keep_other(self, path: Path, files: dict[str, Entry], before: Mapping[str, Entry]) -> None:
        """A file that may change or go at any time; one that did not change since the last backup is not read again."""
        name = path.relative_to(self.state).as_posix()
        try:
            with path.open("rb") as file:
                found = path.stat()
                last = before.get(name)
                if (
                    last is not None
                    and (last.size_bytes, last.modified_ns) == (found.st_size, found.st_mtime_ns)
                    and self.folder.holds(last.digest, last.size_bytes, read=self.verify)
                ):
                    files[name] = last
                    return
                pieces = _complete_lines(pieces_of(file)) if path.suffix == ".jsonl" else pieces_of(file)
                files[name] = self._add(pieces, modified_ns=found.st_mtime_ns)
        except FileNotFoundError:
            return


def _complete_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces up to the last line that is complete: the next one may be half written at this moment."""
    left = b""
    for piece in pieces:
        head, newline, left = (left + piece).rpartition(b"\n")
        yield head + newline


def _job_ids(connection: sa.Connection) -> list[str]:
    if not sa.inspect(connection).has_table(job_table.name):
        return []
    ids = connection.execute(sa.select(job_table.c.id)).scalars()
    return sorted(each for each in ids if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", each))


def _schema_of(connection: sa.Connection) -> int:
    if connection.dialect.name == "sqlite":
        return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    return SCHEMA_VERSION
