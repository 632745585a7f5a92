"""Files that are named by their SHA-256: in a folder, and with an object store also there, for other servers.

With an object store the folder is this server's cache of it. A file is in the store before its row is committed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from lensmount_adapters.adapter.file import digest_of
from lensmount_service.errors import Unavailable

if TYPE_CHECKING:
    from lensmount_service.store.remote.objects import Objects

log = structlog.get_logger(__name__)


class Mirror:
    """`Mirror(state / "datasets", ".zip", objects)`; without `objects`, only the folder."""

    def __init__(self, folder: Path, suffix: str = "", objects: Objects | None = None) -> None:
        self._folder = folder
        self._suffix = suffix
        self._objects = objects
        self._name = re.compile(rf"([0-9a-f]{{64}}){re.escape(suffix)}")

    def local(self, digest: str) -> Path:
        """Where the folder has a file, if it has it."""
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise ValueError(f"not a digest: {digest[:80]!r}")
        return self._folder / f"{digest.removeprefix('sha256:')}{self._suffix}"

    def path(self, digest: str) -> Path:
        """The file in the folder, fetched first if only the object store has it. It may be missing in both.

        Raises Unavailable.
        """
        path = self.local(digest)
        if self._objects is not None and not path.is_file():
            self.fetch(digest)
        return path

    def fetch(self, digest: str) -> bool:
        """Replace the folder's file by the object store's. False if that has none, or a damaged one."""
        if self._objects is None:
            return False
        path = self.local(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._objects.download(self._key(digest), path, digest)
        except FileNotFoundError:
            return False
        return True

    def read(self, digest: str) -> bytes | None:
        """The bytes of a small file, checked; None if it is damaged or missing everywhere. Raises Unavailable."""
        data = self._read(digest)
        return self._read(digest) if data is None and self.fetch(digest) else data

    def _read(self, digest: str) -> bytes | None:
        try:
            data = self.local(digest).read_bytes()
        except OSError:
            return None
        return data if digest_of(data) == digest else None

    def has(self, digest: str, size_bytes: int) -> bool:
        """True if the file is there in this size. Raises Unavailable."""
        path = self.local(digest)
        if path.is_file():
            return path.stat().st_size == size_bytes
        return self._objects is not None and self._objects.size(self._key(digest)) == size_bytes

    def create(self, digest: str, data: bytes) -> None:
        """Give the object store the bytes of a small file, before its row is committed. Raises Unavailable."""
        if self._objects is not None:
            self._objects.create(self._key(digest), data)

    def share(self, digest: str, path: Path) -> None:
        """Give the object store a file that it lacks, before its row is committed. Raises Unavailable."""
        if self._objects is not None and self._objects.size(self._key(digest)) != path.stat().st_size:
            self._objects.upload(self._key(digest), path)

    def share_again(self, digest: str) -> None:
        """Do so once more after the commit, because another server may have purged the same digest in between.

        If the store cannot be asked now, it has what it got a moment ago.
        """
        try:
            self.share(digest, self.local(digest))
        except (Unavailable, FileNotFoundError) as error:  # or this version was purged as well
            log.warning("stored file not looked for again", digest=digest, reason=str(error))

    def remove(self, digests: Iterable[str]) -> None:
        """Remove files that no row needs, within a transaction, so that none is being published.

        What an object store does not remove now stays there until `remove_orphans`.
        """
        gone = list(digests)
        for digest in gone:
            self.local(digest).unlink(missing_ok=True)
        if self._objects is not None:
            try:
                self._objects.delete([self._key(digest) for digest in gone], quick=True)
            except Unavailable as error:
                log.warning("files left for lensmount gc", count=len(gone), reason=str(error))

    def remove_orphans(self, alone: Callable[[], AbstractContextManager[Collection[str]]], before: float) -> int:
        """Remove files of the object store that no needed digest names and that were last written before `before`.

        It is listed before `alone` is entered, so that a long listing blocks no writer. Raises Unavailable.
        """
        if self._objects is None:
            return 0
        stored = self._objects.listed(self._folder.name)
        with alone() as needed:
            keep = {self._key(digest) for digest in needed}
            gone = [file.key for file in stored if file.key not in keep and file.modified_at < before]
            self._objects.delete(gone)
        return len(gone)

    def fill(self, needed: Collection[str]) -> int:
        """Give the object store those of the files that only this folder has, as after a restore. Returns how many."""
        if self._objects is None:
            return 0
        stored = {file.key for file in self._objects.listed(self._folder.name)}
        lacking = [digest for digest in needed if self._key(digest) not in stored and self.local(digest).is_file()]
        for digest in lacking:
            self._objects.upload(self._key(digest), self.local(digest))
        return len(lacking)

    def pieces(self, digest: str) -> Iterator[bytes]:
        """The bytes as the object store has them, or the folder, unchecked. Raises OSError, Unavailable.

        What only the folder has counts as well, as after a restore: the next start gives it to the store.
        """
        path = self.local(digest)
        if self._objects is None or (path.is_file() and self._objects.size(self._key(digest)) is None):
            return iter([path.read_bytes()])
        return self._objects.pieces(self._key(digest))

    def digests(self) -> set[str]:
        """The digests of all files: of the object store, or of the folder. Raises Unavailable."""
        if self._objects is not None:
            names = [file.key.rpartition("/")[2] for file in self._objects.listed(self._folder.name)]
        else:
            names = [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []
        return {f"sha256:{found[1]}" for name in names if (found := self._name.fullmatch(name))}

    def _key(self, digest: str) -> str:
        return f"{self._folder.name}/{self.local(digest).name}"
