"""Adapter files on disk, named by their SHA-256. They are written once, never changed, and checked at every read."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from lensmount_adapters.adapter.file import digest_of
from lensmount_adapters.atomic import fsync_folder, write_atomic
from lensmount_adapters.faults import fault
from lensmount_service.errors import Unavailable, Unusable
from lensmount_service.store.faults import storage

Alone = Callable[[], AbstractContextManager[Collection[str]]]  # the digests needed, while nothing can be published


class Blobs(Protocol):
    """Storage for adapter files: a folder, or an object store with a folder as its cache (remote_blobs.py)."""

    def put(self, data: bytes) -> str:
        """Returns the digest once the bytes survive a crash. On StorageFull or Unavailable nothing is kept."""
        ...

    def put_again(self, data: bytes) -> None:
        """Store the bytes that were `put` before, if their file was deleted since."""
        ...

    def get(self, digest: str) -> bytes:
        """Returns the bytes, checked against the digest. Raises Unavailable."""
        ...

    def delete(self, digest: str) -> None:
        """Succeeds if the file is already gone. Raises Unavailable."""
        ...

    def tier(self, digest: str) -> str:
        """Where the file would be read from: "file" or "remote"."""
        ...

    def holds(self, digest: str) -> bool:
        """True if the file exists; it is not read. Raises Unavailable."""
        ...

    def digests(self) -> set[str]:
        """Every file that is stored. Raises Unavailable."""
        ...

    def pieces(self, digest: str) -> Iterator[bytes]:
        """The bytes as they are stored, unchecked and past any cache. Raises OSError, Unavailable."""
        ...

    def remove_orphans(self, alone: Alone, before: float) -> int:
        """Remove files that no needed digest names and that were last written before `before`, in seconds since 1970.

        The files are listed before `alone` is entered, so that a long listing blocks no writer.
        """
        ...


class BlobStore:
    """`put(data)` returns the digest once the bytes survive a crash; `get(digest)` returns them, checked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Raises StorageFull if the disk is full. Nothing is left half-written."""
        digest = digest_of(data)
        path = self._path(digest)
        with storage("the adapters"):
            if not _is_intact(path, digest):  # an upload repairs a damaged file
                write_atomic(path, data)
        return digest

    def put_again(self, data: bytes) -> None:
        if not self.holds(digest_of(data)):
            self.put(data)

    def get(self, digest: str) -> bytes:
        """Raises Unavailable: `adapter_corrupt` if the file is gone or its bytes no longer match its digest."""
        path = self._path(digest)
        try:
            with storage("the adapters"):
                fault("blobs.read")
                data = path.read_bytes()
        except Unavailable as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise corrupt(digest, "its file is gone") from error
            raise
        if digest_of(data) != digest:
            raise corrupt(digest, "the bytes on disk do not match the digest")
        return data

    def holds(self, digest: str) -> bool:
        with storage("the adapters"):
            return self._path(digest).is_file()

    def tier(self, digest: str) -> str:
        return "file"

    def remove_orphans(self, alone: Alone, before: float) -> int:
        old = [path for path in self._folder.iterdir() if mtime_of(path) < before]
        with alone() as needed:
            keep = {digest.removeprefix("sha256:") for digest in needed}
            gone = [path for path in old if path.name not in keep]
            for path in gone:
                path.unlink(missing_ok=True)
        return len(gone)

    def touch(self, digest: str) -> None:
        """Mark the file as just read."""
        with contextlib.suppress(OSError):
            os.utime(self._path(digest))

    def make_room(self, max_bytes: int, but: str) -> None:
        """Remove the files that were touched least recently until at most `max_bytes` are left. The file `but` stays.

        Only for a folder that caches files which are also stored elsewhere.
        """
        with contextlib.suppress(OSError):  # another process may clean up the same folder
            files = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self._folder.glob("[0-9a-f]*"))
            total = sum(size for _, size, _ in files)
            for _, size, path in files:
                if total <= max_bytes:
                    break
                if path != self._path(but):
                    path.unlink()
                    total -= size

    def delete(self, digest: str) -> None:
        with storage("the adapters"):
            fault("blobs.delete")
            self._path(digest).unlink(missing_ok=True)
            fsync_folder(self._folder)

    def digests(self) -> set[str]:
        return {f"sha256:{path.name}" for path in self._folder.iterdir() if re.fullmatch(r"[0-9a-f]{64}", path.name)}

    def pieces(self, digest: str) -> Iterator[bytes]:
        yield self._path(digest).read_bytes()

    def _path(self, digest: str) -> Path:
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise ValueError(f"not a digest: {digest[:80]!r}")
        return self._folder / digest.removeprefix("sha256:")


def _is_intact(path: Path, digest: str) -> bool:
    try:
        return digest_of(path.read_bytes()) == digest
    except FileNotFoundError:  # never written, or deleted by another thread at this moment
        return False


def mtime_of(path: Path) -> float:
    """Seconds since the epoch; infinite for a file that is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process removed it
        return math.inf


def corrupt(digest: str, reason: str) -> Unusable:
    return Unusable(f"adapter {digest}: {reason}. Fix: upload it again", code="adapter_corrupt")
