"""A folder of labelled images as one zip. Its bytes depend only on the names and contents of the files."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO

from lensmount_client._errors import CannotWrite, InvalidInput
from lensmount_client._files.listing import FolderSource, Listed, Listing, Source, counted, list_source
from lensmount_client._files.paths import IMAGE_SUFFIXES, refuse_url
from lensmount_client._files.walk import order_of, passed_over_part
from lensmount_client._types.progress import Report, no_report

__all__ = ["Archive", "ZipSource", "counted", "open_archive"]

MEMORY_BYTES = 64 * 2**20  # an archive up to this size never touches the disk
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip can hold
BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class Archive:
    """`with open_archive("cells/") as archive: archive.digest`."""

    file: IO[bytes]
    digest: str
    size_bytes: int
    left_out: Mapping[str, int] = field(default_factory=dict)  # files not packed, by suffix, or "hidden"
    notes: tuple[str, ...] = ()  # how the folder was read

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def read(self, first: int, size_bytes: int) -> bytes:
        self.file.seek(first)
        return self.file.read(size_bytes)


def open_archive(path: str | Path, report: Report = no_report, class_depth: int | None = None) -> Archive:
    """Open a zip as it is, or pack a folder into a temporary one: its images, sorted, uncompressed.

    The images are those that `lensmount train` would read, and what is left out is counted. Unless each class is a
    folder at the top, a `manifest.jsonl` states label, group and part of each image. `path` may also be a file of
    labels. With `class_depth`, the labels of a zip are stated in the same way. The same contents give the same bytes,
    so that an interrupted upload can resume. `report` is called with (bytes packed, None). Raises InvalidInput,
    or CannotWrite if the disk is full.
    """
    refuse_url(path, "a folder or a zip on this machine")
    path = Path(path)
    try:
        if path.is_dir():
            return _pack(list_source(FolderSource(path), IMAGE_SUFFIXES, class_depth), report)
        if not path.exists():
            raise InvalidInput(f"{path}: no such file or folder")
        if path.suffix.lower() in (".csv", ".tsv", ".jsonl") and path.is_file():
            folder = FolderSource(path.parent)
            return _pack(list_source(folder, IMAGE_SUFFIXES, class_depth, path.name), report)
        if not path.is_file() or not zipfile.is_zipfile(path):
            raise InvalidInput(f"{path}: not a zip, expected a folder of images or a zip of one")
        if class_depth is None:
            return _sealed(path.open("rb"), {})
        with zipfile.ZipFile(path) as archive:
            return _pack(list_source(ZipSource(archive, str(path)), IMAGE_SUFFIXES, class_depth), report)
    except (OSError, ValueError, zipfile.BadZipFile) as error:  # ValueError: a NUL in the name
        raise InvalidInput(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


@dataclass(frozen=True, slots=True)
class ZipSource:
    """A zip file of the user's own, to be packed again. The server checks other zips, and far more strictly."""

    archive: zipfile.ZipFile
    title: str
    prefix: str = ""

    def list(self) -> Listing:
        names = [name for name in self.archive.namelist() if name.startswith(self.prefix)]
        names = [name[len(self.prefix) :] for name in names]
        hidden = {part for name in names if (part := passed_over_part(name.removesuffix("/")))}
        kept = [name for name in names if passed_over_part(name.removesuffix("/")) is None and name]
        files = [name for name in kept if not name.endswith("/")]
        folders = {name[:at] for name in kept for at, sign in enumerate(name) if sign == "/"}
        return Listing(*(tuple(sorted(names, key=order_of)) for names in (files, folders, hidden)))

    def has(self, path: str) -> bool:
        return self.prefix + path in self.archive.NameToInfo

    def size(self, path: str) -> int:
        return self.archive.getinfo(self.prefix + path).file_size

    def read(self, path: str) -> bytes:
        return self.archive.read(self.prefix + path)

    def below(self, prefix: str) -> ZipSource:
        return ZipSource(self.archive, self.title, self.prefix + prefix)


def _pack(listed: Listed, report: Report) -> Archive:
    title = listed.source.title
    file: IO[bytes] = SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  the Archive closes it
    try:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(labelled.path for labelled in listed.files):
                _add(archive, name, _content(listed.source, name))
                report(file.tell(), None)
            if not listed.plain:
                _add(archive, "manifest.jsonl", _manifest(listed))
        return _sealed(file, listed.left_out, listed.notes)
    except OSError as error:
        file.close()
        raise CannotWrite(
            f"the archive of {title} cannot be written ({error.strerror}). Fix: set TMPDIR to a folder with more space"
        ) from error
    except BaseException:
        file.close()
        raise


def _manifest(listed: Listed) -> bytes:
    """Label, group and part of each image, in the order of paths."""
    rows = []
    for labelled in sorted(listed.files, key=lambda labelled: labelled.path):
        stated = {"group": labelled.group, "split": labelled.split}
        row = {"path": labelled.path, "label": labelled.label} | {k: v for k, v in stated.items() if v is not None}
        rows.append(json.dumps(row, ensure_ascii=False))
    return ("\n".join(rows) + "\n").encode()


def _content(source: Source, name: str) -> bytes:
    """All bytes of an image; an empty file too: the server reports it as unreadable."""
    try:
        return source.read(name)
    except (OSError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"{source.title}: {name}: cannot be read ({reason}). Fix: permit reading it") from error


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.create_system, entry.external_attr = 3, 0o100644 << 16
    archive.writestr(entry, content)


def _sealed(file: IO[bytes], left_out: Mapping[str, int], notes: tuple[str, ...] = ()) -> Archive:
    digest, size_bytes = hashlib.sha256(), 0
    file.seek(0)
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
        size_bytes += len(block)
    return Archive(file, f"sha256:{digest.hexdigest()}", size_bytes, left_out, notes)
