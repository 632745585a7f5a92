"""Adapter files on disk, named by their SHA-256: written once, never changed, checked at every read."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from lensmount_adapters.atomic import fsync_folder, write_atomic
from lensmount_adapters.files import digest_of
from lensmount_service.errors import StorageFull, Unavailable


class BlobStore:
    """`put(data)` returns the digest once the bytes survive a crash; `get(digest)` returns them, checked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Raises StorageFull where the disk is; nothing is left half-written."""
        digest = digest_of(data)
        path = self._path(digest)
        try:
            if not path.exists() or digest_of(path.read_bytes()) != digest:  # a damaged blob is healed by its upload
                write_atomic(path, data)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StorageFull("the disk that holds the adapters is full. Cure: free space and try again") from error
            raise Unavailable(f"the adapters cannot be written ({error.strerror})", code="store_unavailable") from error
        return digest

    def get(self, digest: str) -> bytes:
        """Raises Unavailable (`adapter_corrupt`) where the file is gone or its bytes no longer match its digest."""
        try:
            data = self._path(digest).read_bytes()
        except OSError as error:
            raise _corrupt(digest, "its file cannot be read") from error
        if digest_of(data) != digest:
            raise _corrupt(digest, "the bytes on disk do not match the digest")
        return data

    def delete(self, digest: str) -> None:
        self._path(digest).unlink(missing_ok=True)
        fsync_folder(self._folder)

    def digests(self) -> set[str]:
        return {f"sha256:{path.name}" for path in self._folder.iterdir() if re.fullmatch(r"[0-9a-f]{64}", path.name)}

    def _path(self, digest: str) -> Path:
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise ValueError(f"not a digest: {digest[:80]!r}")
        return self._folder / digest.removeprefix("sha256:")


def _corrupt(digest: str, found: str) -> Unavailable:
    return Unavailable(f"adapter {digest[:19]}...: {found}. Cure: upload it again", code="adapter_corrupt")
