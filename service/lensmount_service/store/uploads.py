"""Resumable uploads: the bytes that have arrived are kept on disk until the upload is complete.

A part file always holds a prefix of the upload and nothing else, even after a kill at any moment. Its name encodes the
upload, its final size and who began it. The SHA-256 is checked once all bytes have arrived.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from io import FileIO
from pathlib import Path

from lensmount_adapters.faults import fault
from lensmount_service.errors import UploadOffsetMismatch
from lensmount_service.store.faults import storage
from lensmount_service.store.keys import tenant_of

ABANDONED_S = 3600.0  # after its last byte, an upload gives way to a new one of the same owner


class Uploads:
    """`uploads.append("cells", digest, first, data, total)` chunk by chunk; safe from any thread.

    `received` stays below `total` even when all bytes have arrived. The client sends the last byte again, and that
    request is answered with the dataset.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def received(self, name: str, digest: str) -> int:
        """How many bytes the client can skip; 0 for an unknown upload."""
        sizes = [min(path.stat().st_size, _total(path) - 1) for path in self._parts(name, digest)]
        return max(sizes, default=0)

    def append(self, name: str, digest: str, first: int, data: bytes, total: int) -> tuple[int, Path | None]:
        """Add a chunk. Returns the number of bytes received, and the file once the upload is complete.

        Raises UploadOffsetMismatch if `first` is not the number of bytes received, or StorageFull; then adds nothing.
        """
        path = self.part(name, digest, total)
        if path is None:
            if first:
                raise _mismatch(first, 0)
            path = self.begin(name, digest, total)
        with storage("the uploads"), path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # after a timeout, the same chunk may arrive twice at once
            size = os.fstat(file.fileno()).st_size
            if first != min(size, total - 1):
                raise _mismatch(first, min(size, total - 1))
            try:
                write_all(file, memoryview(data)[size - first :])
            except OSError:
                os.ftruncate(file.fileno(), size)
                raise
            size = os.fstat(file.fileno()).st_size
        return min(size, total - 1), path if size == total else None

    def complete(self, name: str, digest: str, total: int) -> Path:
        """The file of a complete upload. Raises UploadOffsetMismatch if bytes are missing."""
        path = self.part(name, digest, total)
        size = 0 if path is None else _size(path)
        if path is None or size != total:
            raise UploadOffsetMismatch(
                f"found {size} of {total} bytes; another request may have finished this upload. "
                "Fix: resume from `received`",
                received=min(size, total - 1),
            )
        return path

    def part(self, name: str, digest: str, total: int) -> Path | None:
        """The file of an upload that has begun; None if it has not, or has another size."""
        return next((path for path in self._parts(name, digest) if _total(path) == total), None)

    def begin(self, name: str, digest: str, total: int, owner: str | None = None) -> Path:
        """The file of a new upload. Its final size counts for the owner from now on."""
        path = self._folder / f"{_key(name, digest)}.{total}.{_tag(tenant_of(name), owner)}.part"
        with storage("the uploads"):
            path.touch()
        return path

    def held(self, tenant: str, owner: str, but: tuple[str, str] | None = None) -> int:
        """Stated bytes of all uploads that the owner began, but for one: its name and digest."""
        key = None if but is None else _key(*but)
        parts = self._folder.glob(f"*.{_tag(tenant, owner)}.part")
        return sum(_total(path) for path in parts if path.name.partition(".")[0] != key)

    def drop_abandoned(self, tenant: str, owner: str) -> int:
        """Remove the owner's uploads that nobody continued for an hour. Returns how many."""
        old = [path for path in self.old_files(ABANDONED_S) if path.name.endswith(f".{_tag(tenant, owner)}.part")]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def drop(self, name: str, digest: str) -> None:
        for path in self._parts(name, digest):
            path.unlink(missing_ok=True)

    def stage(self) -> Path:
        """A new file for a body that arrives in one request."""
        with storage("the uploads"):
            fault("uploads.stage")
            handle, path = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
            os.close(handle)
        return Path(path)

    def old_files(self, older_than_s: float) -> list[Path]:
        """Files that were last written at least this many seconds ago."""
        return old_files(self._folder, older_than_s)

    def _parts(self, name: str, digest: str) -> list[Path]:
        return list(self._folder.glob(f"{_key(name, digest)}.*.part"))


def old_files(folder: Path, older_than_s: float) -> list[Path]:
    """The files directly in `folder` that were last written at least this many seconds ago."""
    old = []
    for path in folder.iterdir():
        try:
            if path.is_file() and time.time() - path.stat().st_mtime >= older_than_s:
                old.append(path)
        except FileNotFoundError:  # removed meanwhile
            continue
    return sorted(old)


def write_all(file: FileIO, data: bytes | memoryview) -> None:
    """Write to an unbuffered file, so that closing it cannot fail."""
    view = memoryview(data)
    while view:
        fault("uploads.write")
        view = view[file.write(view) :]


def _mismatch(first: int, received: int) -> UploadOffsetMismatch:
    return UploadOffsetMismatch(
        f"found a chunk that begins at {first}, expected {received}. Fix: resume from `received`", received=received
    )


def _key(name: str, digest: str) -> str:
    """A file name that the client cannot choose."""
    return hashlib.sha256(f"{name}\0{digest}".encode()).hexdigest()


def _tag(tenant: str, owner: str | None) -> str:
    """Who began an upload, as a part of a file's name."""
    return "" if owner is None else hashlib.sha256(f"{tenant}\0{owner}".encode()).hexdigest()[:16]


def _size(path: Path) -> int:
    """0 if another request has just finished the upload."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _total(path: Path) -> int:
    return int(path.name.split(".")[1])
