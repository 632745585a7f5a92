"""Receive a file beside its final place and rename it only when its digest is right."""

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
    """The sink of a pull; whatever goes wrong, the target is either whole or untouched.

    Writing blocks, in the async client as well: it is short against the network.
    """

    def __init__(self, target: Path, mismatch: type[AnswerError] = AdapterMismatch) -> None:
        self._target = target
        self._mismatch = mismatch  # raised for other bytes than promised
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
        """Raises UnexpectedResponse without a digest to check against, `mismatch` if it differs."""
        if not DIGEST.fullmatch(digest):
            raise UnexpectedResponse(f"ETag: found {digest!r}, expected sha256:<64 hex>", request_id)
        received = f"sha256:{self._hash.hexdigest()}"
        if received != digest:
            raise self._mismatch(f"digest: the server promised {digest}, the bytes have {received}", request_id)
        try:
            self._file.close()
            self._temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
            self._temporary.replace(self._target)
        except OSError as error:
            raise CannotWrite(f"{self._target}: cannot be written ({error.strerror})") from error
        return DownloadedFile(self._target, digest, self._size_bytes)


def download_target(path: str | Path, name: str) -> Path:
    """The file to write: `path` itself, or `name` in it where `path` is a folder."""
    path = Path(path)
    return path / name if path.is_dir() else path


def _umask() -> int:
    current = os.umask(0o022)  # the only way to read it is to set it
    os.umask(current)
    return current
