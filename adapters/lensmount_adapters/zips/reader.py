"""Read a zip file that has been checked byte by byte first, without a second parser.

The interpreter's zipfile expands overlapping entries (CVE-2024-0450, fixed after Python 3.11.7) and trusts declared
sizes. So the central directory and every local header are read here. Nothing is ever unpacked to disk.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from lensmount_adapters.errors import ArchiveInvalid, DatasetError
from lensmount_adapters.zips.directory import ArchiveLimits, Record, read_directory
from lensmount_adapters.zips.format import (
    DESCRIPTOR,
    ENCRYPTED,
    LOCAL,
    STORED,
    entry_title,
    malformed,
    read_at,
    refuse,
    too_large,
    wide_fields,
)

__all__ = ["Archive", "ArchiveLimits", "Entry", "open_archive"]

_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a checked archive: its name, where its packed bytes are, and what they must unpack to."""

    number: int
    name: str
    start: int
    packed: int
    size: int
    method: int
    crc: int

    @property
    def title(self) -> str:
        return entry_title(self.number, self.name)


@dataclass(frozen=True, slots=True)
class Archive:
    """A checked zip file. `archive = open_archive(path)`, `archive.read("cat/1.png")`.

    No file handle stays open: any number of threads and forked processes may call `read`. `notes` are sentences for
    the user, about names that had to be guessed or changed.
    """

    path: Path
    entries: Mapping[str, Entry]
    folders: tuple[str, ...]
    limits: ArchiveLimits
    notes: tuple[str, ...] = ()

    def read(self, name: str) -> bytes:
        """Return the unpacked bytes of one file. They have exactly the declared size and checksum.

        Raises DatasetError if there is no such entry, ArchiveInvalid (`zip_size_mismatch`, `zip_malformed`),
        DatasetTooLarge (`zip_too_large`), OSError.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise DatasetError(f"found no file {name[:80]!r} in the archive")
        if entry.size > self.limits.max_entry_bytes:
            too_large(
                f"{entry.title}: found {entry.size} bytes, expected at most {self.limits.max_entry_bytes}. "
                "Fix: leave it out, or save it smaller"
            )
        with self.path.open("rb") as file:
            file.seek(entry.start)
            data = file.read(entry.packed) if entry.method == STORED else _inflate(file, entry)
        if len(data) != entry.size:
            _size_mismatch(entry, len(data))
        if zlib.crc32(data) != entry.crc:
            malformed(f"{entry.title}: the bytes fail their checksum. Fix: pack or send the archive again")
        return data


def open_archive(path: Path, limits: ArchiveLimits | None = None) -> Archive:
    """Check the zip file at `path` by its central directory and its local headers.

    Raises ArchiveInvalid (`zip_malformed`, `zip_overlap`, `zip_size_mismatch`, `zip_bad_path`, `zip_symlink`,
    `zip_duplicate_name`, `zip_encrypted`, `zip_method_not_supported`), DatasetTooLarge (`zip_too_large`), OSError.
    """
    limits = limits or ArchiveLimits()
    with path.open("rb") as file:
        records, directory_start, notes = read_directory(file, limits)
        located = _locate(file, records, directory_start)
    entries = {entry.name: entry for entry in located if not entry.name.endswith("/")}
    folders = tuple(entry.name.rstrip("/") for entry in located if entry.name.endswith("/"))
    return Archive(path, entries, folders, limits, notes)


def _locate(file: BinaryIO, records: list[Record], directory_start: int) -> list[Entry]:
    """Find each entry's data by its local header, which must agree with the directory. Entries must not share bytes."""
    order = sorted(range(len(records)), key=lambda index: records[index].offset)
    end = 0
    for record in (records[index] for index in order):  # first by the least extent, without trusting a local header
        if record.offset < end:
            _overlap(record)
        end = record.offset + LOCAL.size + len(record.raw_name) + record.packed
    entries: dict[int, Entry] = {}
    end = 0
    for index in order:
        record = records[index]
        if record.offset < end:
            _overlap(record)
        if record.offset + LOCAL.size > directory_start:
            malformed(f"{record.title}: found its header inside the directory, expected it before")
        header = read_at(file, record.offset, LOCAL.size + len(record.raw_name))
        magic, _, flags, method, _, _, crc, packed, size, names, extras = LOCAL.unpack_from(header)
        if magic != b"PK\x03\x04":
            malformed(f"{record.title}: found no local header at the offset in the directory")
        if header[LOCAL.size :] != record.raw_name or names != len(record.raw_name) or method != record.method:
            malformed(f"{record.title}: found a local header with another name or method, expected the directory's")
        if flags & ENCRYPTED:
            refuse("zip_encrypted", f"{record.title} is encrypted. Fix: pack without a password")
        start = record.offset + LOCAL.size + names + extras
        if start > directory_start:
            malformed(f"{record.title}: found its data inside the directory, expected it before")
        if 0xFFFFFFFF in (size, packed):
            extra = read_at(file, start - extras, extras)
            size, packed, _, _ = wide_fields(extra, size, packed, 0, 0)
        _check_agreement(record, flags, size, packed, crc)
        end = start + record.packed
        if end > directory_start:
            _overlap(record)
        entries[index] = Entry(record.number, record.name, start, record.packed, record.size, record.method, record.crc)
    return [entries[index] for index in range(len(records))]


def _check_agreement(record: Record, flags: int, size: int, packed: int, crc: int) -> None:
    if flags & DESCRIPTOR and (size, packed, crc) == (0, 0, 0):
        return
    if flags & DESCRIPTOR and size in (0, record.size) and packed in (0, record.packed):
        return
    if (size, packed) != (record.size, record.packed):
        refuse(
            "zip_size_mismatch",
            f"{record.title}: found {size} bytes in its local header, expected the directory's {record.size}",
        )
    if crc != record.crc:
        malformed(f"{record.title}: found a local header with another checksum, expected the directory's")


def _inflate(file: BinaryIO, entry: Entry) -> bytes:
    """Unpack one entry, and never more than one byte beyond its declared size."""
    inflate = zlib.decompressobj(-15)
    parts: list[bytes] = []
    unpacked, left = 0, entry.packed
    try:
        while left and not inflate.eof:
            chunk = file.read(min(_CHUNK, left))
            if not chunk:
                break
            left -= len(chunk)
            parts.append(inflate.decompress(chunk, entry.size + 1 - unpacked))
            unpacked += len(parts[-1])
            if unpacked > entry.size:
                _size_mismatch(entry, unpacked)
    except zlib.error as error:
        raise ArchiveInvalid(
            f"{entry.title}: the packed bytes are damaged. Fix: pack or send the archive again",
            code="zip_malformed",
        ) from error
    if not inflate.eof or left or inflate.unused_data:
        _size_mismatch(entry, unpacked)
    return b"".join(parts)


def _overlap(record: Record) -> NoReturn:
    refuse("zip_overlap", f"{record.title}: its bytes overlap another entry or the directory")


def _size_mismatch(entry: Entry, size: int) -> NoReturn:
    more = "more than " if size > entry.size else ""
    refuse(
        "zip_size_mismatch",
        f"{entry.title}: found {more}{min(size, entry.size)} bytes, expected the {entry.size} declared",
    )
