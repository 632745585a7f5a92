"""The files of a dataset, in a folder on disk or in a checked zip file, listed and read through one interface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lensmount_adapters.data.zip_reader import Archive
from lensmount_adapters.inputs.images import IMAGE_SUFFIXES


@dataclass(frozen=True, slots=True)
class Listing:
    """Paths below the root, POSIX style, sorted folder by folder. `folders` are the names directly below the root.

    `hidden` are files that operating systems leave: `.DS_Store`, `__MACOSX/...` and any name that begins with a dot.
    """

    files: tuple[str, ...]
    folders: tuple[str, ...]
    hidden: tuple[str, ...]


class Source(Protocol):
    """Lists and reads the files of a dataset."""

    @property
    def title(self) -> str:
        """The source's name in messages."""

    def list(self) -> Listing: ...

    def has(self, path: str) -> bool: ...

    def size(self, path: str) -> int:
        """The size of a file in bytes."""

    def read(self, path: str) -> bytes:
        """Raises DatasetError or OSError if the file cannot be read."""


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder on disk."""

    root: Path

    @property
    def title(self) -> str:
        return str(self.root)

    def list(self) -> Listing:
        folders = sorted(path.name for path in self.root.iterdir() if path.is_dir() and not is_hidden(path.name))
        files = [path for path in self.root.iterdir() if path.is_file()]
        for folder in folders:
            files += [path for path in (self.root / folder).rglob("*") if path.is_file()]
        return _listing([path.relative_to(self.root).as_posix() for path in files], folders)

    def has(self, path: str) -> bool:
        return (self.root / path).is_file()

    def size(self, path: str) -> int:
        return (self.root / path).stat().st_size

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """A zip file. If all its files are in one folder, paths begin below that folder (`prefix`, with its slash)."""

    archive: Archive
    title: str
    prefix: str = ""

    @classmethod
    def open(cls, archive: Archive, title: str, labelled_by: tuple[str, ...]) -> ArchiveSource:
        """`labelled_by`: names of files of labels; a folder that has one becomes the root."""
        plain = cls(archive, title)
        listing = plain.list()
        tops = {name.split("/", 1)[0] for name in listing.files}
        if len(tops) != 1 or len(listing.folders) != 1 or any("/" not in name for name in listing.files):
            return plain
        inner = cls(archive, title, f"{listing.folders[0]}/")
        below = inner.list()
        if any(name in below.files for name in labelled_by):
            return inner
        images_at_top = any("/" not in name and name.lower().endswith(IMAGE_SUFFIXES) for name in below.files)
        return inner if below.folders and not images_at_top else plain

    def list(self) -> Listing:
        names = [name.removeprefix(self.prefix) for name in self.archive.entries if name.startswith(self.prefix)]
        stray = [name for name in self.archive.entries if not name.startswith(self.prefix)]
        inside = {name.removeprefix(self.prefix) for name in self.archive.folders if name.startswith(self.prefix)}
        tops = {name.split("/", 1)[0] for name in inside if name} | {n.split("/", 1)[0] for n in names if "/" in n}
        listing = _listing(names, sorted(name for name in tops if not is_hidden(name)))
        return Listing(listing.files, listing.folders, (*listing.hidden, *sorted(stray)))

    def has(self, path: str) -> bool:
        return self.prefix + path in self.archive.entries

    def size(self, path: str) -> int:
        return self.archive.entries[self.prefix + path].size

    def read(self, path: str) -> bytes:
        return self.archive.read(self.prefix + path)


def is_input_name(path: str, suffixes: tuple[str, ...]) -> bool:
    """Return True if the path ends in one of the suffixes, in upper or lower case."""
    return path.lower().endswith(suffixes)


def is_hidden(name: str) -> bool:
    """Return True for a file or folder that an operating system leaves or hides."""
    return name.startswith(".") or name == "__MACOSX"


def order_of(path: str) -> tuple[str, ...]:
    """A sort key that orders paths folder by folder, as pathlib does."""
    return tuple(path.split("/"))


def _listing(names: list[str], folders: list[str]) -> Listing:
    names = sorted(names, key=order_of)
    hidden = tuple(name for name in names if any(map(is_hidden, name.split("/"))))
    left_out = set(hidden)
    return Listing(tuple(name for name in names if name not in left_out), tuple(folders), hidden)
