"""The files of a dataset, in a folder on disk or in a checked zip file, listed and read through one interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lensmount_adapters.data.listing import FolderSource, Listing, Source
from lensmount_adapters.data.walk import check_depth, is_input_name, order_of, passed_over_part
from lensmount_adapters.zips.reader import Archive

__all__ = ["ArchiveSource", "FolderSource", "Listing", "Source", "is_input_name", "order_of"]


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """A zip file. `prefix` is a folder in it, with a slash at its end, below which paths begin."""

    archive: Archive
    title: str
    prefix: str = ""

    def list(self) -> Listing:
        files: list[str] = []
        hidden: set[str] = set()
        folders = {path.removesuffix("/") for path in self._below(self.archive.folders)}
        for path in self._below(self.archive.entries):
            check_depth(path)
            if part := passed_over_part(path):
                hidden.add(part)
            else:
                files.append(path)
                folders |= _folders_above(path)
        for path in sorted(folders):
            if part := passed_over_part(path):
                hidden.add(f"{part.removesuffix('/')}/")
                folders.remove(path)
            else:
                folders |= _folders_above(path)
        ordered = (tuple(sorted(names, key=order_of)) for names in (files, folders, hidden))
        return Listing(*ordered)

    def has(self, path: str) -> bool:
        return self.prefix + path in self.archive.entries

    def size(self, path: str) -> int:
        return self.archive.entries[self.prefix + path].size

    def read(self, path: str) -> bytes:
        return self.archive.read(self.prefix + path)

    def below(self, prefix: str) -> ArchiveSource:
        return ArchiveSource(self.archive, self.title, self.prefix + prefix)

    def _below(self, names: Iterable[str]) -> Iterator[str]:
        return (name[len(self.prefix) :] for name in names if name.startswith(self.prefix) and name != self.prefix)


def _folders_above(path: str) -> set[str]:
    parts = path.split("/")[:-1]
    return {"/".join(parts[:end]) for end in range(1, len(parts) + 1)}
