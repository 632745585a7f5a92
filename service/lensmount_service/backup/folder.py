"""The folder of backups: every file once, named by its digest, and one manifest for each backup.

Nothing that is there is overwritten, and a manifest is written last. So a backup that is interrupted leaves the older
ones as they were, and files that are there already are not copied again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lensmount_adapters.atomic import fsync_folder, write_atomic
from lensmount_adapters.faults import fault
from lensmount_service.backup.manifest import NAME, BackupManifest, Entry, read_manifest
from lensmount_service.errors import Unavailable
from lensmount_service.repair.shelves import pieces_of
from lensmount_service.store.faults import storage


class FileDamaged(Exception):
    """The bytes that were read do not match the digest that they should have."""


class BackupFolder:
    """`with BackupFolder(path).writing() as folder: entry = folder.add(pieces, digest)`, then `folder.commit(...)`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = path / "files"
        self._manifests = path / "manifests"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Create the folder, and let nobody else write there meanwhile. Raises Unavailable or StorageFull."""
        if self.path.exists() and not self._manifests.is_dir() and any(self.path.iterdir()):
            raise _refused(
                f"found other files in {self.path}, expected an empty folder, a new one, or one with backups",
                "name another folder",
            )
        with storage("the backup"):
            for folder in (self.path, self._files, self._manifests):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise _refused(
                    f"found another backup that is being written into {self.path}", "wait until it has finished"
                ) from error
            for left in self._files.glob(".*.tmp"):  # of a backup that was killed
                left.unlink(missing_ok=True)
            for left in self.path.glob(".snapshot-*"):
                shutil.rmtree(left, ignore_errors=True)
            yield
        finally:
            os.close(handle)

    def manifests(self) -> list[Path]:
        """The manifests of all backups, oldest first. Raises Unavailable if this is not a folder of backups."""
        if not self._manifests.is_dir():
            raise _refused(
                f"found no backup in {self.path}, expected a folder that `lensmount backup` wrote",
                "give the folder that you gave to `lensmount backup`",
            )
        return sorted(path for path in self._manifests.iterdir() if NAME.fullmatch(path.name))

    def find(self, at: str | None = None) -> Path:
        """The manifest of the newest backup, or of the newest whose time begins with `at`. Raises Unavailable."""
        paths = self.manifests()
        wanted = (at or "").replace("-", "").replace(":", "")
        matching = [path for path in paths if path.name.startswith(wanted)]
        if not matching:
            known = ", ".join(time_of(path) for path in paths[-3:]) or "none"
            raise _refused(
                f"found no finished backup {at or ''} in {self.path}, expected one of: {known}",
                "see `lensmount restore FROM --list`" if paths else "run `lensmount backup` again",
            )
        return matching[-1]

    def holds(self, digest: str, size_bytes: int | None = None, *, read: bool = False) -> bool:
        """Whether a file is there, of this size; with `read`, whether its bytes still match."""
        path = self.file(digest)
        try:
            if size_bytes is not None and path.stat().st_size != size_bytes:
                return False
            return path.is_file() and (not read or _digest_of(path) == digest)
        except FileNotFoundError:
            return False

    def size_of(self, digest: str) -> int:
        return self.file(digest).stat().st_size

    def add(self, pieces: Iterable[bytes], digest: str | None = None, modified_ns: int | None = None) -> Entry:
        """Write a file, read it back from the disk, and give it its name.

        Raises FileDamaged if the pieces do not match `digest`, OSError, or StorageFull; then nothing is kept.
        """
        with storage("the backup"):
            fault("backup.create")
            handle, name = tempfile.mkstemp(dir=self._files, prefix=".", suffix=".tmp")
        temporary = Path(name)
        try:
            found, size = self._write(handle, pieces)
            if digest is not None and found != digest:
                raise FileDamaged(digest)
            with storage("the backup"):
                if _digest_of(temporary) != found:
                    raise OSError(5, "the disk of the backup returns other bytes than were written")
                fault("backup.rename")
                temporary.replace(self.file(found))
                fsync_folder(self._files)
        finally:
            temporary.unlink(missing_ok=True)
        return Entry(digest=found, size_bytes=size, modified_ns=modified_ns)

    @staticmethod
    def _write(handle: int, pieces: Iterable[bytes]) -> tuple[str, int]:
        hashing, size = hashlib.sha256(), 0
        with os.fdopen(handle, "wb") as file:
            for piece in pieces:
                hashing.update(piece)
                size += len(piece)
                with storage("the backup"):
                    fault("backup.write")
                    file.write(piece)
            with storage("the backup"):
                file.flush()
                fault("backup.fsync")
                os.fsync(file.fileno())
        return f"sha256:{hashing.hexdigest()}", size

    def commit(self, name: str, text: str) -> Path:
        """Write the manifest of a backup, whose files are all there. From now on it can be restored."""
        with storage("the backup"):
            fault("backup.commit")
            write_atomic(self._manifests / name, text.encode())
            (self._manifests / name).chmod(0o600)
        return self._manifests / name

    def prune(self, keep: int) -> int:
        """Remove all backups but the newest ones, and the files that only they need. Returns how many backups."""
        paths = self.manifests()
        gone, kept = paths[:-keep], paths[-keep:]
        needed = {entry.digest for path in kept for entry in read_manifest(path).files.values()}
        for path in gone:
            fault("backup.prune")
            path.unlink(missing_ok=True)
        if gone:
            fsync_folder(self._manifests)
            for file in self._files.iterdir():
                if re.fullmatch(r"[0-9a-f]{64}", file.name) and f"sha256:{file.name}" not in needed:
                    file.unlink(missing_ok=True)
        return len(gone)

    def latest(self) -> BackupManifest | None:
        """The newest manifest that can be read."""
        for path in reversed(self.manifests()):
            with contextlib.suppress(Unavailable):
                return read_manifest(path)
        return None

    def file(self, digest: str) -> Path:
        return self._files / digest.removeprefix("sha256:")

    def copy(self, digest: str, target: Path, say: Callable[[int], None] = lambda nbytes: None) -> None:
        """Copy a file out of the backup, durably. Raises FileDamaged if its bytes do not match; OSError."""
        hashing = hashlib.sha256()
        with self.file(digest).open("rb") as source, target.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            for piece in pieces_of(source):
                hashing.update(piece)
                fault("restore.write")
                file.write(piece)
                say(len(piece))
            file.flush()
            fault("restore.fsync")
            os.fsync(file.fileno())
        if f"sha256:{hashing.hexdigest()}" != digest:
            raise FileDamaged(digest)


def time_of(manifest: Path) -> str:
    """When a backup was made, as `--at` takes it."""
    found = NAME.fullmatch(manifest.name)
    return found["time"] if found else manifest.name


def _digest_of(path: Path) -> str:
    hashing = hashlib.sha256()
    with path.open("rb") as file:
        for piece in pieces_of(file):
            hashing.update(piece)
    return f"sha256:{hashing.hexdigest()}"


def _refused(found: str, fix: str) -> Unavailable:
    return Unavailable(f"{found}. Fix: {fix}", code="store_unavailable")
