"""Uploads that may break off and go on: the bytes that have arrived, on disk, until all of them are there.

A part file holds a prefix of what is being sent and nothing else, whatever was killed when; its name says whose it is
and how long it is to become. Whether the whole is right, its SHA-256 says at the end.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from lensmount_service.errors import StorageFull, Unavailable, UploadOffsetMismatch


class Uploads:
    """`uploads.append("cells", digest, first, data, total)` chunk by chunk; safe from any thread.

    `received` stays below `total` even when all bytes are there: the last byte is asked for again, and its arrival is
    the request that is answered with the dataset.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def received(self, name: str, digest: str) -> int:
        """How many bytes to skip; 0 for an upload that is not known."""
        sizes = [min(path.stat().st_size, _total(path) - 1) for path in self._parts(name, digest)]
        return max(sizes, default=0)

    def append(self, name: str, digest: str, first: int, data: bytes, total: int) -> tuple[int, Path | None]:
        """Add a chunk; returns what has been received, and the file once it is whole.

        Raises UploadOffsetMismatch where `first` is not what has been received, StorageFull; then nothing is added.
        """
        path = self._folder / f"{_key(name, digest)}.{total}.part"
        if first and not path.exists():
            raise _mismatch(first, 0)
        with storage("the uploads"), path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # the same chunk may come twice at once, after a timeout
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

    def whole(self, name: str, digest: str, total: int) -> Path:
        """The file of an upload whose every byte is there. Raises UploadOffsetMismatch where it is not."""
        path = self._folder / f"{_key(name, digest)}.{total}.part"
        size = path.stat().st_size if path.is_file() else 0
        if size != total:
            raise UploadOffsetMismatch(
                f"found {size} bytes of {total}, perhaps another request has finished this upload. "
                "Fix: go on from `received`",
                received=min(size, total - 1),
            )
        return path

    def drop(self, name: str, digest: str) -> None:
        for path in self._parts(name, digest):
            path.unlink(missing_ok=True)

    def stage(self) -> Path:
        """A new file for a body that comes in one request."""
        with storage("the uploads"):
            handle, path = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
            os.close(handle)
        return Path(path)

    def left_over(self, older_than_s: float) -> list[Path]:
        """Files that nobody has written to for so long."""
        return left_over(self._folder, older_than_s)

    def _parts(self, name: str, digest: str) -> list[Path]:
        return list(self._folder.glob(f"{_key(name, digest)}.*.part"))


def left_over(folder: Path, older_than_s: float) -> list[Path]:
    """The files right in `folder` that are older than this."""
    found = []
    for path in folder.iterdir():
        try:
            if path.is_file() and time.time() - path.stat().st_mtime >= older_than_s:
                found.append(path)
        except FileNotFoundError:  # gone meanwhile
            continue
    return sorted(found)


def write_all(file: FileIO, data: bytes | memoryview) -> None:
    """To an unbuffered file, whose close cannot fail afterwards."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


@contextmanager
def storage(what: str) -> Iterator[None]:
    """Disk errors as StorageFull or Unavailable."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull(f"the disk that holds {what} is full. Fix: free space and try again") from error
        raise Unavailable(f"{what} cannot be read or written ({error.strerror})", code="store_unavailable") from error


def _mismatch(first: int, received: int) -> UploadOffsetMismatch:
    return UploadOffsetMismatch(
        f"found a chunk that begins at {first}, expected {received}. Fix: go on from `received`", received=received
    )


def _key(name: str, digest: str) -> str:
    """A name on disk that no client has chosen."""
    return hashlib.sha256(f"{name}\0{digest}".encode()).hexdigest()


def _total(path: Path) -> int:
    return int(path.name.split(".")[1])
