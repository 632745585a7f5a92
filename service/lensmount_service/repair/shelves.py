"""Where the files of each kind are, and whether the bytes of one still match its digest."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol

from lensmount_adapters.atomic import fsync_folder
from lensmount_adapters.faults import fault
from lensmount_service.repair.inventory import Kind
from lensmount_service.store.blobs import Blobs, BlobStore, mtime_of
from lensmount_service.store.faults import storage
from lensmount_service.store.remote.mirror import Mirror

if TYPE_CHECKING:
    from lensmount_service.store.remote.objects import Objects

PIECE_BYTES = 2**18

State = Literal["intact", "damaged", "missing"]
FOLDER_OF: Mapping[Kind, tuple[str, str]] = {
    "adapter": ("blobs", ""),
    "dataset": ("datasets", ".zip"),
    "image": ("pools", ""),
}
"""The folder of each kind in the state folder, and how the names of its files end."""


class Shelf(Protocol):
    """The files of one kind: a folder, or an object store."""

    is_local: bool  # reading it costs no network

    def digests(self) -> set[str]:
        """The digests by which the files are named; nothing is read. Raises Unavailable."""
        ...

    def written_at(self, digest: str) -> float:
        """Seconds since the epoch; infinite if the file is gone or this is not known."""
        ...

    def pieces(self, digest: str) -> Iterator[bytes]:
        """The bytes as they are stored, unchecked. Raises FileNotFoundError, other OSErrors, Unavailable."""
        ...

    def set_apart(self, digest: str, folder: Path) -> bool:
        """Move a damaged file into a folder, out of everybody's way. False if it stays where it is."""
        ...


class FolderShelf:
    """`FolderShelf(state / "datasets", ".zip")`; each file is named by its SHA-256."""

    is_local = True

    def __init__(self, folder: Path, suffix: str = "") -> None:
        self._folder = folder
        self._suffix = suffix
        self._name = re.compile(rf"([0-9a-f]{{64}}){re.escape(suffix)}")

    def digests(self) -> set[str]:
        with storage("the state folder"):
            paths = list(self._folder.iterdir()) if self._folder.is_dir() else []
        return {f"sha256:{found[1]}" for path in paths if (found := self._name.fullmatch(path.name))}

    def written_at(self, digest: str) -> float:
        return mtime_of(self.path(digest))

    def pieces(self, digest: str) -> Iterator[bytes]:
        with self.path(digest).open("rb") as file:
            yield from pieces_of(file)

    def set_apart(self, digest: str, folder: Path) -> bool:
        with storage("the state folder"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fault("recover.set_apart")
            self.path(digest).replace(folder / self.path(digest).name)
            fsync_folder(folder)
            fsync_folder(self._folder)
        return True

    def path(self, digest: str) -> Path:
        return self._folder / f"{digest.removeprefix('sha256:')}{self._suffix}"


class Remote(Protocol):
    """Files of one kind in an object store."""

    def digests(self) -> set[str]: ...

    def pieces(self, digest: str) -> Iterator[bytes]: ...


class BlobShelf:
    """Files of an object store. Each of its files is read from there, and no cache changes."""

    is_local = False

    def __init__(self, blobs: Remote) -> None:
        self._blobs = blobs

    def digests(self) -> set[str]:
        return self._blobs.digests()

    def written_at(self, digest: str) -> float:
        return float("inf")

    def pieces(self, digest: str) -> Iterator[bytes]:
        return self._blobs.pieces(digest)

    def set_apart(self, digest: str, folder: Path) -> bool:
        return False


def open_shelves(state: Path, blobs: Blobs | None = None, objects: Objects | None = None) -> dict[Kind, Shelf]:
    """Where a server with this state folder has its files; with `objects`, all are there, and `blobs` too."""
    shelves: dict[Kind, Shelf] = {kind: FolderShelf(state / name, end) for kind, (name, end) in FOLDER_OF.items()}
    if objects is not None:
        shelves = {kind: BlobShelf(Mirror(state / name, end, objects)) for kind, (name, end) in FOLDER_OF.items()}
    if blobs is not None and not isinstance(blobs, BlobStore):
        shelves["adapter"] = BlobShelf(blobs)
    return shelves


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of a file as they are on the disk, which may differ from the copy that the system has in memory."""
    _forget(file)
    while piece := file.read(PIECE_BYTES):
        yield piece
    _forget(file)


def _forget(file: BinaryIO) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def state_of(shelf: Shelf, digest: str, pace: Callable[[int], None] = lambda nbytes: None) -> State:
    """Read a file and compare its SHA-256. `pace` is told the bytes of each piece and may wait.

    A file is read twice before it is called damaged: a fault of the memory or of a cable may pass. Raises what
    `Shelf.pieces` raises, except that a part of a disk that cannot be read is damage.
    """
    state = _state_of(shelf, digest, pace)
    return _state_of(shelf, digest, pace) if state == "damaged" else state


def _state_of(shelf: Shelf, digest: str, pace: Callable[[int], None]) -> State:
    hashing = hashlib.sha256()
    try:
        for piece in shelf.pieces(digest):
            hashing.update(piece)
            pace(len(piece))
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        if error.errno == errno.EIO:
            return "damaged"
        raise
    return "intact" if f"sha256:{hashing.hexdigest()}" == digest else "damaged"
