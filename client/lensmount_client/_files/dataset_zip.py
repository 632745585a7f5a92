"""A folder of labelled images as one zip. Its bytes depend only on the names and contents of the files."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO

from lensmount_client._errors import CannotWrite, InvalidInput
from lensmount_client._files.paths import IMAGE_SUFFIXES
from lensmount_client._show.progress import Report, no_report

MANIFESTS = frozenset({"manifest.csv", "labels.csv", "manifest.jsonl"})  # at the top of the folder
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

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def read(self, first: int, size_bytes: int) -> bytes:
        self.file.seek(first)
        return self.file.read(size_bytes)


def open_archive(path: str | Path, report: Report = no_report) -> Archive:
    """Open a zip as it is, or pack a folder into a temporary one: images and manifests, sorted, uncompressed.

    Hidden files and files that are not images are left out and counted. The same contents give the same bytes,
    so that an interrupted upload can resume. `report` is called with (bytes packed, None). Raises InvalidInput,
    or CannotWrite if the disk is full.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _pack(path, report)
        if not path.exists():
            raise InvalidInput(f"{path}: no such file or folder")
        if not path.is_file() or not zipfile.is_zipfile(path):
            raise InvalidInput(f"{path}: not a zip, expected a folder of images or a zip of one")
        return _sealed(path.open("rb"), {})
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InvalidInput(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _pack(folder: Path, report: Report) -> Archive:
    left_out: Counter[str] = Counter()
    file: IO[bytes] = SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  the Archive closes it
    try:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, path in _files(folder, left_out):
                _add(archive, name, path)
                report(file.tell(), None)
            if not any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in archive.namelist()):
                contents = f"only {counted(left_out)}" if left_out else "nothing"
                raise InvalidInput(
                    f"{folder}: found {contents}, expected images ({' '.join(sorted(IMAGE_SUFFIXES))}), "
                    "with one folder per class, or a manifest.csv with the columns path and label"
                )
        return _sealed(file, dict(sorted(left_out.items())))
    except OSError as error:
        file.close()
        raise CannotWrite(
            f"the archive of {folder} cannot be written ({error.strerror}). Fix: set TMPDIR to a folder with more space"
        ) from error
    except BaseException:
        file.close()
        raise


def _files(folder: Path, left_out: Counter[str]) -> Iterator[tuple[str, Path]]:
    """Names in the archive, sorted, each with the path of its file."""
    entries = []
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        hidden = [name for name in folders if _is_hidden(name)]
        left_out.update({"hidden folders": len(hidden)} if hidden else {})
        folders[:] = [name for name in folders if name not in hidden]
        at_top = Path(parent) == folder
        for name in files:
            if _is_hidden(name):
                left_out["hidden"] += 1
            elif Path(name).suffix.lower() in IMAGE_SUFFIXES or (at_top and name in MANIFESTS):
                path = Path(parent, name)
                entries.append((path.relative_to(folder).as_posix(), path))
            else:
                left_out[Path(name).suffix.lower() or "without a suffix"] += 1
    return iter(sorted(entries))


def _refuse(error: OSError) -> None:
    raise InvalidInput(f"{error.filename}: cannot be read ({error.strerror})") from error


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db")


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.create_system, entry.external_attr = 3, 0o100644 << 16
    if not path.is_file():
        raise InvalidInput(f"{path}: not a regular file (a broken link?)")
    try:
        content = path.read_bytes()  # empty files too: the server reports them as unreadable
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})") from error
    try:
        archive.writestr(entry, content)
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{name!r}: this file name is not UTF-8. Fix: rename the file") from error


def _sealed(file: IO[bytes], left_out: Mapping[str, int]) -> Archive:
    digest, size_bytes = hashlib.sha256(), 0
    file.seek(0)
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
        size_bytes += len(block)
    return Archive(file, f"sha256:{digest.hexdigest()}", size_bytes, left_out)


def counted(left_out: Mapping[str, int]) -> str:
    """{".txt": 2, "hidden": 1} as "2 .txt, 1 hidden"."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items(), key=lambda item: (-item[1], item)))
