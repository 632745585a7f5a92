"""Adapters in the formats of other tools, as zip files: made once, one at a time, and kept while there is room."""

from __future__ import annotations

import errno
import hashlib
import shutil
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from lensmount_adapters.export.export import export_zip, target_of
from lensmount_adapters.faults import fault
from lensmount_service.errors import StorageFull, Unavailable
from lensmount_service.store.bounded_pool import BoundedPool
from lensmount_service.store.catalog import Catalog, Snapshot

MAX_WAITING = 16  # requests for an export, the one that is made included


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """An open zip file, its SHA-256 and its size. The caller closes it. It may be removed while it is read."""

    file: BinaryIO
    digest: str
    size_bytes: int


class Exports:
    """`await exports.open(snapshot, "peft")`. The folder belongs to one server process, which empties it at start."""

    def __init__(self, folder: Path, catalog: Catalog, max_bytes: int) -> None:
        self._folder = folder
        self._catalog = catalog
        self._max_bytes = max_bytes
        self._maker = BoundedPool("exports", threads=1, most=MAX_WAITING)
        shutil.rmtree(folder, ignore_errors=True)

    async def open(self, snapshot: Snapshot, to: str) -> ExportedFile:
        """The zip file of an adapter in a format. Others wait in turn; who gives up leaves the queue.

        Raises ExportError, QueueFull, StorageFull or Unavailable.
        """
        target_of(to)
        return await self._maker.run(partial(self._open, snapshot, to), _close, caller=snapshot.reader)

    def close(self) -> None:
        self._maker.close()

    def _open(self, snapshot: Snapshot, to: str) -> ExportedFile:
        path = self._folder / f"{snapshot.reader}-{snapshot.version.digest.removeprefix('sha256:')}-{to}.zip"
        try:
            if not path.is_file():
                self._make(snapshot, to, path)
            path.touch()
            file = path.open("rb")
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StorageFull("the disk is full, so nothing can be exported. Fix: free space there") from error
            raise Unavailable(f"the export cannot be written ({error.strerror})", code="store_unavailable") from error
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ExportedFile(file, f"sha256:{digest}", file.tell())

    def _make(self, snapshot: Snapshot, to: str, path: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        try:
            fault("exports.write")
            export_zip(snapshot.adapter, self._catalog.backbone, to, temporary)
            fault("exports.rename")
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
        self._make_room(path)

    def _make_room(self, new: Path) -> None:
        """Remove the files that were asked for longest ago until the rest fits, without the new one."""
        files = sorted(self._folder.glob("*.zip"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = new.stat().st_size
        for path in files:
            if path != new:
                total += path.stat().st_size
                if total > self._max_bytes:
                    path.unlink()


def _close(unclaimed: Future[ExportedFile]) -> None:
    if not unclaimed.cancelled() and unclaimed.exception() is None:
        unclaimed.result().file.close()
