"""The datasets that jobs train on. Each version is one canonical archive, checked on arrival and never changed.

A version becomes visible when its row is committed; its file is complete and durable before that. Version numbers are
never reused. Equal contents are stored as one file, however often they are sent.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import sqlalchemy as sa
import structlog

from lensmount_adapters.atomic import fsync_folder
from lensmount_adapters.data.dataset import list_folder
from lensmount_adapters.data.dataset_archive import MANIFEST, DatasetArchive, DatasetLimits, write_dataset_archive
from lensmount_adapters.data.split_advice import SplitOptions, stated_images, too_small, why_refused
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.zips.reader import ArchiveLimits, open_archive
from lensmount_service.errors import DatasetInUse, NotFound, RequestInvalid, Unavailable, VersionDeleted
from lensmount_service.store.database import Database, metadata
from lensmount_service.store.references import require_name
from lensmount_service.store.similar import similar_name
from lensmount_service.store.uploads import Uploads, old_files, storage

log = structlog.get_logger(__name__)

InUse = Callable[[sa.Connection, str, int | None], Sequence[str]]

dataset_table = sa.Table(
    "datasets",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(71), nullable=False, index=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False, default=False),
    sa.Column("images", sa.Integer, nullable=False),
    sa.Column("classes", sa.JSON, nullable=False),
    sa.Column("report", sa.JSON, nullable=False),
    sa.Column("source_digest", sa.String(71), nullable=False, index=True),  # of the zip as it was sent
    sa.Column("source_bytes", sa.BigInteger, nullable=False),
)
_datasets = dataset_table.c
_MAX_SPLIT_IMAGES = 2000  # that are split while a client waits
_OWN_ARCHIVES = ArchiveLimits(max_total_bytes=2**50)  # canonical archives were checked on arrival
_CONTENTS = ("digest", "size_bytes", "images", "classes", "report", "source_digest", "source_bytes")


@dataclass(frozen=True, slots=True)
class Dataset:
    """One immutable version of a dataset. `report` describes what is in it."""

    name: str
    version: int
    digest: str
    size_bytes: int
    created_at: str
    images: int
    classes: dict[str, int]
    report: dict[str, Any]


class DatasetStore:
    """`store.admit("cells", path, digest)`, `store.get("cells")`, `store.open(dataset)`; safe from any thread.

    `in_use(connection, name, version)` returns the jobs that still need this version, or any version if it is None.
    It is called within the transaction that deletes.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        archive_limits: ArchiveLimits | None = None,
        dataset_limits: DatasetLimits | None = None,
        in_use: InUse = lambda connection, name, version: (),
    ) -> None:
        self.uploads = Uploads(folder / "uploads")
        self._database = database
        self._folder = folder
        self._archive_limits = archive_limits or ArchiveLimits()
        self._dataset_limits = dataset_limits or DatasetLimits()
        self._in_use = in_use
        self._closing = threading.Event()
        database.create()

    def close(self) -> None:
        """Stop an admission in progress. The uploaded bytes are kept for the next start."""
        self._closing.set()

    def admit(self, name: str, path: Path, source_digest: str) -> tuple[Dataset, bool]:
        """Check the zip file at `path`, store it as a canonical archive and publish it.

        Returns the new version and True, or the latest version and False if that already has this content.
        Raises DatasetError, StorageFull or Unavailable, and then changes nothing.
        """
        require_name(name, "dataset name")
        published = self._publish_known(name, source_digest)
        if published is not None:
            return published
        with storage("the datasets"):
            source_bytes = path.stat().st_size
            handle, temporary_name = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
        temporary = Path(temporary_name)
        try:
            with storage("the datasets"), os.fdopen(handle, "wb") as file:
                listed = list_folder(path, self._archive_limits, title="the archive")
                canonical = write_dataset_archive(listed, file, self._dataset_limits, self._stop_if_closing)
                os.fchmod(file.fileno(), 0o644)  # mkstemp's 0600 is for secrets
                file.flush()
                os.fsync(file.fileno())
            return self._publish(name, _contents(canonical, source_digest, source_bytes), temporary)
        finally:
            temporary.unlink(missing_ok=True)

    def received(self, name: str, digest: str) -> int:
        """How many bytes of the zip file with this digest can be skipped: all but one if the server already has it."""
        require_name(name, "dataset name")
        with self._database.read() as connection:
            known = self._known(connection, digest)
        if known is not None:
            return max(0, int(known.source_bytes) - 1)
        return self.uploads.received(name, digest)

    def append(self, name: str, digest: str, first: int, data: bytes, total: int) -> int | None:
        """Store one chunk of an upload. Returns the bytes received so far, or None once the upload is complete.

        Raises UploadOffsetMismatch, StorageFull.
        """
        require_name(name, "dataset name")
        with self._database.read() as connection:
            known = self._known(connection, digest)
        if known is not None and (int(known.source_bytes), first) == (total, total - 1):
            return None
        received, complete = self.uploads.append(name, digest, first, data, total)
        return received if complete is None else None

    def finish(self, name: str, digest: str, total: int) -> tuple[Dataset, bool]:
        """Admit a complete upload. Its part file is removed unless it can be admitted later.

        Raises RequestInvalid (`digest_mismatch`) and what `admit` raises.
        """
        published = self._publish_known(name, digest)
        if published is None:
            path = self.uploads.complete(name, digest, total)
            try:
                with storage("the uploads"), path.open("rb") as file:
                    actual = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
                if actual != digest:
                    raise RequestInvalid(
                        "found bytes with another SHA-256 than the upload's digest. Fix: send the file again",
                        code="digest_mismatch",
                    )
                published = self.admit(name, path, digest)
            except (DatasetError, RequestInvalid):
                self.uploads.drop(name, digest)
                raise
        self.uploads.drop(name, digest)
        return published

    def get(self, name: str, version: int | None = None, digest: str | None = None) -> Dataset:
        """The requested version, by default the latest. Raises NotFound or VersionDeleted (`dataset_gone`)."""
        with self._database.read() as connection:
            rows = _rows(connection, name)
            if version is not None:
                return _by(connection, name, rows, "version", version)
            if digest is not None:
                return _by(connection, name, rows, "digest", digest)
            live = [row for row in rows if not row.deleted]
            if not live:
                raise _not_found(connection, name)
            return _dataset(live[-1])

    def require(self, connection: sa.Connection, name: str, version: int) -> Dataset:
        """An existing version, read within the caller's transaction. Raises NotFound or VersionDeleted."""
        return _by(connection, name, _rows(connection, name), "version", version)

    def entries(self) -> list[Dataset]:
        """The latest version of each dataset, by name."""
        with self._database.read() as connection:
            rows = connection.execute(
                dataset_table.select().where(~_datasets.deleted).order_by(_datasets.name, _datasets.version)
            ).all()
        return list({row.name: _dataset(row) for row in rows}.values())

    def open(self, dataset: Dataset) -> BinaryIO:
        """The canonical archive, which stays readable even if it is deleted. Raises Unavailable (`dataset_corrupt`)."""
        try:
            file = self._path(dataset.digest).open("rb")
            if os.fstat(file.fileno()).st_size == dataset.size_bytes:
                return file
            file.close()
        except OSError as error:
            raise _corrupt(dataset) from error
        raise _corrupt(dataset)

    def refusal(self, dataset: Dataset, options: SplitOptions, group_regex: str | None) -> DatasetError | None:
        """Why a job with these options would fail when it splits the dataset, or None if nothing is known against it.

        Up to 2,000 images are split as the job would do it. Of more, the report knows about the default options. A
        `group_regex` is searched in all paths, in a child process with a limit on its time (`group_search`), for which
        this thread waits.
        """
        if group_regex is None and dataset.images > _MAX_SPLIT_IMAGES:
            known = [warning for warning in dataset.report["warnings"] if warning["code"] == "cannot_split"]
            return too_small(known[0]["message"]) if known and options == SplitOptions() else None
        try:
            manifest = open_archive(self._path(dataset.digest), _OWN_ARCHIVES).read(MANIFEST)
        except (OSError, DatasetError) as error:
            raise _corrupt(dataset) from error
        images, most = stated_images(manifest), _MAX_SPLIT_IMAGES
        return why_refused(images, options, group_regex, most)

    def delete(self, name: str, version: int | None = None) -> None:
        """Delete a version, or all of them. Raises NotFound, VersionDeleted, DatasetInUse."""
        with self._database.write() as connection:
            rows = _rows(connection, name)
            live = [row for row in rows if not row.deleted]
            if not live:
                raise _not_found(connection, name)
            gone = live if version is None else [_row(connection, name, rows, "version", version)]
            if users := self._in_use(connection, name, version):
                raise DatasetInUse(
                    f"found {len(users)} job(s) that still need it, such as {users[0]}. "
                    "Fix: wait for them or cancel them"
                )
            numbers = [row.version for row in gone]
            connection.execute(
                dataset_table.update()
                .where(_datasets.name == name, _datasets.version.in_(numbers))
                .values(deleted=True)
            )
        for digest in {row.digest for row in gone}:
            self._unlink_unless_needed(digest)
        log.info("dataset deleted", dataset=name, version=version)

    def digests(self) -> set[str]:
        """The digests of all live versions."""
        with self._database.read() as connection:
            return _live_digests(connection)

    def orphans(self, older_than_s: float) -> list[Path]:
        """Files of no live version that were last written at least this many seconds ago."""
        with self._database.write() as connection:
            return self._orphans(connection, older_than_s)

    def remove_orphans(self, older_than_s: float) -> list[Path]:
        """Delete the orphans and return them. No other writer runs meanwhile, so none of them is being published."""
        with self._database.write() as connection, storage("the datasets"):
            orphans = self._orphans(connection, older_than_s)
            for path in orphans:
                path.unlink(missing_ok=True)
        return orphans

    def _orphans(self, connection: sa.Connection, older_than_s: float) -> list[Path]:
        needed = {self._path(digest) for digest in _live_digests(connection)}
        old = old_files(self._folder, older_than_s) + self.uploads.old_files(older_than_s)
        return [path for path in old if path not in needed]

    def _publish_known(self, name: str, source_digest: str) -> tuple[Dataset, bool] | None:
        """Publish the dataset that was admitted earlier from the same bytes; None if there is none."""
        with self._database.read() as connection:
            if self._known(connection, source_digest) is None:
                return None
        with self._database.write() as connection:
            known = self._known(connection, source_digest)  # it may have been deleted meanwhile
            if known is None:
                return None
            return self._add(connection, name, {column: getattr(known, column) for column in _CONTENTS})

    def _known(self, connection: sa.Connection, source_digest: str) -> Any | None:
        rows = connection.execute(
            dataset_table.select().where(_datasets.source_digest == source_digest, ~_datasets.deleted)
        ).all()
        for row in rows:
            path = self._path(row.digest)
            if path.is_file() and path.stat().st_size == row.size_bytes:
                return row
        return None

    def _publish(self, name: str, contents: dict[str, Any], temporary: Path) -> tuple[Dataset, bool]:
        """Publish row and file together. The file is moved while no other writer can take it for an orphan."""
        with self._database.write() as connection:
            published = self._add(connection, name, contents)
            with storage("the datasets"):
                temporary.replace(self._path(contents["digest"]))
                fsync_folder(self._folder)
        return published

    def _add(self, connection: sa.Connection, name: str, contents: dict[str, Any]) -> tuple[Dataset, bool]:
        rows = _rows(connection, name)
        live = [row for row in rows if not row.deleted]
        if live and live[-1].digest == contents["digest"]:
            return _dataset(live[-1]), False
        values = {"name": name, "version": (rows[-1].version if rows else 0) + 1, "created_at": _now(), **contents}
        connection.execute(dataset_table.insert().values(**values, deleted=False))
        log.info("dataset published", dataset=name, version=values["version"], digest=values["digest"])
        return Dataset(**{field: values[field] for field in Dataset.__dataclass_fields__}), True

    def _unlink_unless_needed(self, digest: str) -> None:
        with self._database.write() as connection:
            if digest not in _live_digests(connection):
                with storage("the datasets"):
                    self._path(digest).unlink(missing_ok=True)
                    fsync_folder(self._folder)

    def _stop_if_closing(self, done: int, total: int) -> None:
        if self._closing.is_set():
            raise Unavailable("the server is shutting down. Fix: finish the upload later", retry_after_s=5)

    def _path(self, digest: str) -> Path:
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise ValueError(f"not a digest: {digest[:80]!r}")
        return self._folder / f"{digest.removeprefix('sha256:')}.zip"


def _contents(canonical: DatasetArchive, source_digest: str, source_bytes: int) -> dict[str, Any]:
    return {
        "digest": canonical.digest,
        "size_bytes": canonical.size_bytes,
        "images": canonical.images,
        "classes": canonical.classes,
        "report": canonical.report,
        "source_digest": source_digest,
        "source_bytes": source_bytes,
    }


def _rows(connection: sa.Connection, name: str) -> list[Any]:
    return list(connection.execute(dataset_table.select().where(_datasets.name == name).order_by(_datasets.version)))


def _live_digests(connection: sa.Connection) -> set[str]:
    return set(connection.execute(sa.select(_datasets.digest).where(~_datasets.deleted)).scalars())


def _by(connection: sa.Connection, name: str, rows: list[Any], column: str, wanted: object) -> Dataset:
    return _dataset(_row(connection, name, rows, column, wanted))


def _row(connection: sa.Connection, name: str, rows: list[Any], column: str, wanted: object) -> Any:
    """The latest live row with this version or digest."""
    matching = [row for row in rows if getattr(row, column) == wanted]
    live = [row for row in matching if not row.deleted]
    if live:
        return live[-1]
    if matching:
        raise VersionDeleted(f"this version of the dataset {name!r} was deleted. Fix: use another", code="dataset_gone")
    if all(row.deleted for row in rows):
        raise _not_found(connection, name)
    newest = max(row.version for row in rows if not row.deleted)
    raise NotFound(
        f"found no such version of the dataset {name!r}. Did you mean {newest}, the latest?", code="dataset_not_found"
    )


def _dataset(row: Any) -> Dataset:
    return Dataset(**{field: getattr(row, field) for field in Dataset.__dataclass_fields__})


def _not_found(connection: sa.Connection, name: str) -> NotFound:
    meant = similar_name(connection, _datasets.name, ~_datasets.deleted, name)
    return NotFound(
        f"found no dataset named {name[:80]!r}.{meant} Fix: see GET /datasets for the names", code="dataset_not_found"
    )


def _corrupt(dataset: Dataset) -> Unavailable:
    return Unavailable(
        f"dataset {dataset.digest[:19]}...: its file is gone or has another size. Fix: upload it again",
        code="dataset_corrupt",
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
