"""Receive a file under a temporary name in its final folder; rename it only if its digest is correct."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lensmount_client._errors import AdapterMismatch, AnswerError, CannotWrite, UnexpectedResponse
from lensmount_client._reference import DIGEST
from lensmount_client._types.results import DownloadedFile


class WholeFile:
    """`with WholeFile(path) as file: file.write(data); file.keep()`: the file is complete, or as it was before.

    Raises CannotWrite, also for a pipe or a device, which would be replaced by a file.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        if os.path.exists(target) and not os.path.isfile(target):  # noqa: PTH110, PTH113  pathlib raises for some names
            raise CannotWrite(
                f"{target}: found something that is not a file, expected a file or a new name. Fix: choose another name"
            )
        try:
            handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise self._failed(error) from error
        self._file = os.fdopen(handle, "wb")
        self._temporary = Path(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError as closing:  # the disk is full: what was buffered cannot be written
            if error is None:
                raise self._failed(closing) from closing
        finally:
            self._temporary.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> None:
        try:
            self._file.write(chunk)
        except OSError as error:
            raise self._failed(error) from error

    def keep(self) -> None:
        """Put the file in its place."""
        try:
            self._file.close()
            self._temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
            self._temporary.replace(self._target)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError | ValueError) -> CannotWrite:
        return CannotWrite(f"{self._target}: cannot be written ({getattr(error, 'strerror', None) or error})")


class Download(WholeFile):
    """The sink of a download. If anything fails, the target file is unchanged.

    Writing blocks, in the async client too: it is short compared with the network.
    """

    def __init__(self, target: Path, mismatch: type[AnswerError] = AdapterMismatch) -> None:
        super().__init__(target)
        self._mismatch = mismatch  # raised if the bytes differ from what the server promised
        self.start()

    def start(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self._size_bytes = 0

    def write(self, chunk: bytes) -> None:
        super().write(chunk)
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
        self.keep()
        return DownloadedFile(self._target, digest, self._size_bytes)


def save_picture(image: Any, path: str | Path) -> Path:
    """Write a PIL image in the format of the name's ending, completely or not at all. Raises CannotWrite."""
    from PIL import Image

    target = Path(path)
    format_name = Image.registered_extensions().get(target.suffix.lower())
    if format_name is None:
        raise CannotWrite(f"{path}: unknown file extension: {target.suffix}. Fix: a name such as {target.stem}.png")
    with WholeFile(target) as file:
        buffer = io.BytesIO()
        try:
            image.save(buffer, format_name)
        except (OSError, ValueError) as error:
            raise CannotWrite(f"{path}: {error}. Fix: a name such as {target.stem}.png") from error
        file.write(buffer.getvalue())
        file.keep()
    return target


def download_target(path: str | Path, name: str) -> Path:
    """The file to write: `path` itself, or `name` inside it if `path` is a folder."""
    path = Path(path)
    return path / name if os.path.isdir(path) else path  # noqa: PTH112


def _umask() -> int:
    current = os.umask(0o022)  # reading it is only possible by setting it
    os.umask(current)
    return current
