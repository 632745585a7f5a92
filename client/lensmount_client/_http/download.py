"""Receive a file under a temporary name in its final folder; rename it only if its digest is correct."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from types import TracebackType

from lensmount_client._errors import AdapterMismatch, AnswerError, CannotWrite, UnexpectedResponse
from lensmount_client._reference import DIGEST
from lensmount_client._types.results import DownloadedFile


class Download:
    """The sink of a download. If anything fails, the target file is unchanged.

    Writing blocks, in the async client too: it is short compared with the network.
    """

    def __init__(self, target: Path, mismatch: type[AnswerError] = AdapterMismatch) -> None:
        self._target = target
        self._mismatch = mismatch  # raised if the bytes differ from what the server promised
        try:
            handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        except OSError as error:
            raise CannotWrite(f"{target}: cannot be written ({error.strerror})") from error
        self._file = os.fdopen(handle, "wb")
        self._temporary = Path(name)
        self.start()

    def __enter__(self) -> Download:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def start(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self._size_bytes = 0

    def write(self, chunk: bytes) -> None:
        try:
            self._file.write(chunk)
        except OSError as error:
            raise CannotWrite(f"{self._target}: cannot be written ({error.strerror})") from error
        self._hash.update(chunk)
        self._size_bytes += len(chunk)

    def finish(self, digest: str, request_id: str | None) -> DownloadedFile:
        """Move the file to its target. Raises UnexpectedResponse if there is no digest, `mismatch` if it differs."""
        if not DIGEST.fullmatch(digest):
            raise UnexpectedResponse(f"ETag: found {digest!r}, expected sha256:<64 hex>", request_id)
        received = f"sha256:{self._hash.hexdigest()}"
        if received != digest:
            raise self._mismatch(
                f"digest: found {received}, expected {digest} as the server promised. Fix: download it again",
                request_id,
            )
        try:
            self._file.close()
            self._temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
            self._temporary.replace(self._target)
        except OSError as error:
            raise CannotWrite(f"{self._target}: cannot be written ({error.strerror})") from error
        return DownloadedFile(self._target, digest, self._size_bytes)


def download_target(path: str | Path, name: str) -> Path:
    """The file to write: `path` itself, or `name` inside it if `path` is a folder."""
    path = Path(path)
    return path / name if path.is_dir() else path


def _umask() -> int:
    current = os.umask(0o022)  # reading it is only possible by setting it
    os.umask(current)
    return current
