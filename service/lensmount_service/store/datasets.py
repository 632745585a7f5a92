"""The datasets that jobs train on. Each version is one canonical archive, checked on arrival and never changed.

A version becomes visible when its row is committed; its file is complete and durable before that. Version numbers are
never reused. Equal contents are stored as one file, however often they are sent.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import sqlalchemy as sa
import structlog

from lensmount_adapters.atomic import fsync_folder
from lensmount_adapters.data.dataset import Listed, list_folder
from lensmount_adapters.data.dataset_archive import MANIFEST, DatasetLimits, write_dataset_archive
from lensmount_adapters.data.edits import Edits
from lensmount_adapters.data.split_advice import SplitOptions, stated_images, too_small, why_refused
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.faults import fault
from lensmount_adapters.zips.reader import ArchiveLimits, open_archive
from lensmount_service.errors import DatasetInUse, RequestInvalid, Unavailable
from lensmount_service.store.database import Database
from lensmount_service.store.dataset_rows import (
    CONTENTS,
    Dataset,
    added,
    columns,
    contents_of,
    corrupt,
    dataset_of,
    dataset_table,
    made_of,
    mark,
    needed_digests,
    not_found,
    rows_of,
    take_back,
    to_delete,
    version_by,
)
from lensmount_service.store.faults import storage
from lensmount_service.store.keys import DEFAULT_TENANT, Charge, free_of_charge, within
from lensmount_service.store.precondition import ANY, Precondition
from lensmount_service.store.references import require_key
from lensmount_service.store.remote.mirror import Mirror
from lensmount_service.store.uploads import Uploads, old_files

if TYPE_CHECKING:
    from lensmount_service.store.remote.objects import Objects

__all__ = ["Dataset", "DatasetStore", "dataset_table"]

log = structlog.get_logger(__name__)

InUse = Callable[[sa.Connection, str, int | None], Sequence[str]]

_MAX_SPLIT_IMAGES = 2000  # that are split while a client waits
_OWN_ARCHIVES = ArchiveLimits(max_total_bytes=2**50)  # canonical archives were checked on arrival


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
        charge: Charge = free_of_charge,
        objects: Objects | None = None,
    ) -> None:
        self.uploads = Uploads(folder / "uploads")
        self.files = Mirror(folder, ".zip", objects)
        self._database = database
        self._folder = folder
        self._archive_limits = archive_limits or ArchiveLimits()
        self._dataset_limits = dataset_limits or DatasetLimits()
        self._in_use = in_use
        self._charge = charge
        self._closing = threading.Event()
        database.create()

    def close(self) -> None:
        """Stop an admission in progress. The uploaded bytes are kept for the next start."""
        self._closing.set()

    def admit(
        self, name: str, path: Path, source_digest: str, owner: str | None = None, expected: Precondition = ANY
    ) -> tuple[Dataset, bool]:
        """Check the zip file at `path`, store it as a canonical archive and publish it.

        Returns the new version and True, or the latest version and False if that already has this content.
        Raises DatasetError, QuotaExceeded, StorageFull or Unavailable, and then changes nothing.
        """
        require_key(name, "dataset name")
        published = self._publish_known(name, source_digest, owner, expected)
        if published is not None:
            return published
        with storage("the datasets"):
            source = source_digest, path.stat().st_size
        with self._database.read() as connection:  # before the work; what counts is the canonical archive
            self._charge(connection, name, owner, source[1], source_digest)
        with storage("the datasets"):
            listed = list_folder(path, self._archive_limits, title="the archive")
        return self._write(name, listed, source, owner, expected)

    def edit(
        self,
        name: str,
        edits: Edits,
        version: int | None = None,
        owner: str | None = None,
        expected: Precondition = ANY,
    ) -> tuple[Dataset, bool]:
        """Publish a version with other labels or without some images. The edited version stays as it is.

        Returns the new version and True, or the latest version and False if that already has this content.
        Raises NotFound, VersionDeleted, DatasetError, StorageFull or Unavailable, and then changes nothing.
        """
        dataset = self.get(name, version)
        return self._write(name, edits.applied_to(self.listed(dataset)), None, owner, expected)

    def add_version(
        self, name: str, listed: Listed, owner: str | None = None, expected: Precondition = ANY
    ) -> tuple[Dataset, bool]:
        """Publish listed images as a version. Returns and raises what `admit` does."""
        require_key(name, "dataset name")
        return self._write(name, listed, None, owner, expected)

    def listed(self, dataset: Dataset) -> Listed:
        """The images of a version, readable one by one. Raises Unavailable (`dataset_corrupt`)."""
        try:
            return list_folder(self.path(dataset), _OWN_ARCHIVES, title=dataset.name)
        except (OSError, DatasetError) as error:
            raise corrupt(dataset) from error

    def path(self, dataset: Dataset) -> Path:
        """Where the canonical archive is, if it was not deleted. Raises Unavailable."""
        with storage("the datasets"):
            return self.files.path(dataset.digest)

    def _write(
        self,
        name: str,
        listed: Listed,
        source: tuple[str, int] | None,
        owner: str | None,
        expected: Precondition = ANY,
    ) -> tuple[Dataset, bool]:
        """Write the canonical archive and publish it. `source` is the digest and size of the zip as it was sent."""
        with storage("the datasets"):
            fault("datasets.create")
            handle, temporary_name = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
        temporary = Path(temporary_name)
        try:
            with storage("the datasets"), os.fdopen(handle, "wb") as file:
                canonical = write_dataset_archive(listed, file, self._dataset_limits, self._stop_if_closing)
                os.fchmod(file.fileno(), 0o644)  # mkstemp's 0600 is for secrets
                file.flush()
                fault("datasets.fsync")
                os.fsync(file.fileno())
            return self._publish(name, {**contents_of(canonical, source), "owner": owner}, temporary, expected)
        finally:
            temporary.unlink(missing_ok=True)

    def received(self, name: str, digest: str) -> int:
        """How many bytes of the zip file with this digest can be skipped: all but one if the server already has it."""
        require_key(name, "dataset name")
        known = self._known(name, digest)
        if known is not None:
            return max(0, int(known.source_bytes) - 1)
        return self.uploads.received(name, digest)

    def append(
        self, name: str, digest: str, first: int, data: bytes, total: int, owner: str | None = None
    ) -> int | None:
        """Store one chunk of an upload. Returns the bytes received so far, or None once the upload is complete.

        Raises UploadOffsetMismatch, StorageFull, or QuotaExceeded, which an upload that has begun never does.
        """
        require_key(name, "dataset name")
        known = self._known(name, digest)
        if known is not None and (int(known.source_bytes), first) == (total, total - 1):
            return None
        if first == 0:
            with self._database.write() as connection:  # so that of two uploads only one begins in the same space
                if self.uploads.part(name, digest, total) is None:
                    self._charge(connection, name, owner, total)
                    self.uploads.begin(name, digest, total, owner)
        received, complete = self.uploads.append(name, digest, first, data, total)
        return received if complete is None else None

    def finish(
        self, name: str, digest: str, total: int, owner: str | None = None, expected: Precondition = ANY
    ) -> tuple[Dataset, bool]:
        """Admit a complete upload. Its part file is removed unless it can be admitted later.

        Raises RequestInvalid (`digest_mismatch`) and what `admit` raises.
        """
        published = self._publish_known(name, digest, owner, expected)
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
                published = self.admit(name, path, digest, owner, expected)
            except (DatasetError, RequestInvalid):
                self.uploads.drop(name, digest)
                raise
        self.uploads.drop(name, digest)
        return published

    def get(self, name: str, version: int | None = None, digest: str | None = None) -> Dataset:
        """The requested version, by default the latest. Raises NotFound or VersionDeleted (`dataset_gone`)."""
        with self._database.read() as connection:
            rows = rows_of(connection, name)
            if version is not None:
                return version_by(connection, name, rows, "version", version)
            if digest is not None:
                return version_by(connection, name, rows, "digest", digest)
            live = [row for row in rows if not row.deleted]
            if not live:
                raise not_found(connection, name)
            return dataset_of(live[-1])

    def require(self, connection: sa.Connection, name: str, version: int) -> Dataset:
        """An existing version, read within the caller's transaction. Raises NotFound or VersionDeleted."""
        return version_by(connection, name, rows_of(connection, name), "version", version)

    def entries(self, tenant: str = DEFAULT_TENANT) -> list[Dataset]:
        """The latest version of each dataset of a tenant, by name."""
        mine = dataset_table.select().where(~columns.deleted, within(columns.name, tenant))
        with self._database.read() as connection:
            rows = connection.execute(mine.order_by(columns.name, columns.version)).all()
        return list({row.name: dataset_of(row) for row in rows}.values())

    def open(self, dataset: Dataset) -> BinaryIO:
        """The canonical archive, which stays readable even if it is deleted. Raises Unavailable (`dataset_corrupt`)."""
        try:
            file = self.path(dataset).open("rb")
            if os.fstat(file.fileno()).st_size == dataset.size_bytes:
                return file
            file.close()
        except OSError as error:
            raise corrupt(dataset) from error
        raise corrupt(dataset)

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
            manifest = open_archive(self.path(dataset), _OWN_ARCHIVES).read(MANIFEST)
        except (OSError, DatasetError) as error:
            raise corrupt(dataset) from error
        return why_refused(stated_images(manifest), options, group_regex, _MAX_SPLIT_IMAGES)

    def delete(
        self, name: str, version: int | None = None, *, purge: bool = False, expected: Precondition = ANY
    ) -> None:
        """Delete a version, or all of them. `undelete` takes them back until `forget_deleted`; with `purge` it cannot.

        Raises NotFound, VersionDeleted, DatasetInUse.
        """
        gone = self._database.reserve.spend(lambda: self._delete(name, version, purge, expected))
        if purge:
            for digest in {row.digest for row in gone}:
                self._unlink_unless_needed(digest)
            self._database.reserve.fill()
        log.info("dataset deleted", dataset=name, version=version, purged=purge)

    def _delete(self, name: str, version: int | None, purge: bool, expected: Precondition) -> list[Any]:
        with self._database.write() as connection:
            gone = to_delete(connection, name, version, purge=purge)
            expected.require(gone[-1].digest)
            if users := self._in_use(connection, name, version):
                raise DatasetInUse(
                    f"found {len(users)} job(s) that still need it, such as {users[0]}. "
                    "Fix: wait for them or cancel them"
                )
            mark(connection, name, gone, deleted=True, at=None if purge else self._database.now(connection))
        return gone

    def undelete(self, name: str, version: int | None = None, expected: Precondition = ANY) -> Dataset:
        """Take back the latest delete of a dataset, or that of one version. Returns its latest version.

        Raises NotFound, PreconditionFailed, or VersionDeleted (gone for good)."""
        with self._database.write() as connection:
            take_back(connection, name, version, expected)
        return self.get(name)

    def forget_deleted(self, older_than_s: float) -> int:
        """Purge what was deleted at least this many seconds ago. Returns the number of versions."""
        with self._database.read() as connection:
            old = columns.deleted_at <= self._database.now(connection) - older_than_s
            if not connection.execute(sa.select(sa.func.count()).select_from(dataset_table).where(old)).scalar_one():
                return 0
        with self._database.write() as connection:
            return connection.execute(dataset_table.update().where(old).values(deleted_at=None)).rowcount

    def digests(self) -> set[str]:
        """Of all live versions and of those that can be undeleted."""
        with self._database.read() as connection:
            return needed_digests(connection)

    @contextmanager
    def alone(self) -> Iterator[set[str]]:
        """`digests`, during a transaction in which nothing can be published."""
        with self._database.write() as connection:
            yield needed_digests(connection)

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
        needed = {self.files.local(digest) for digest in needed_digests(connection)}
        old = old_files(self._folder, older_than_s) + self.uploads.old_files(older_than_s)
        return [path for path in old if path not in needed]

    def _publish_known(
        self, name: str, source_digest: str, owner: str | None, expected: Precondition
    ) -> tuple[Dataset, bool] | None:
        """Publish the dataset that was admitted earlier from the same bytes; None if there is none."""
        if self._known(name, source_digest) is None:
            return None
        with self._database.write() as connection:
            known = next(iter(made_of(connection, name, source_digest)), None)  # it may have been deleted meanwhile
            if known is None:
                return None
            contents = {column: getattr(known, column) for column in CONTENTS}
            return added(connection, name, {**contents, "owner": owner}, expected, self._charge)

    def _known(self, name: str, source_digest: str) -> Any | None:
        """A live version that was made of these bytes, belongs to the tenant of `name`, and has its file."""
        with self._database.read() as connection:
            rows = made_of(connection, name, source_digest)
        return next((row for row in rows if self.files.has(row.digest, row.size_bytes)), None)

    def _publish(
        self, name: str, contents: dict[str, Any], temporary: Path, expected: Precondition
    ) -> tuple[Dataset, bool]:
        """Publish row and file together. The file is moved while no other writer can take it for an orphan."""
        digest, path = contents["digest"], self.files.local(contents["digest"])
        self.files.share(digest, temporary)
        fault("datasets.shared")
        with self._database.write() as connection:
            published = added(connection, name, contents, expected, self._charge)
            with storage("the datasets"):
                fault("datasets.rename")
                temporary.replace(path)
                fsync_folder(self._folder)
        self.files.share_again(digest)
        return published

    def _unlink_unless_needed(self, digest: str) -> None:
        with self._database.write() as connection:
            if digest not in needed_digests(connection):
                with storage("the datasets"):
                    fault("datasets.delete")
                    self.files.remove([digest])
                    fsync_folder(self._folder)

    def _stop_if_closing(self, done: int, total: int) -> None:
        if self._closing.is_set():
            raise Unavailable("the server is shutting down. Fix: finish the upload later", retry_after_s=5)
