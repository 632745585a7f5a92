"""The central directory of a zip file: found from the end record, and checked entry by entry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

from lensmount_adapters.zips.format import (
    CENTRAL,
    DEFLATED,
    ENCRYPTED,
    END,
    END64,
    END64_LOCATOR,
    PATCHED,
    STORED,
    entry_title,
    malformed,
    read_at,
    refuse,
    too_large,
    wide_fields,
)
from lensmount_adapters.zips.names import StoredName, check_kind, check_names, decode_names

_MAX_EXTRA_BYTES = 1280  # per entry of the directory on average, for its name, extra fields and comment
_FREE_OF_RATIO = 64 * 1024  # smaller files have no ratio limit, because their number is limited
_METHODS = {
    1: "Shrink",
    6: "Implode",
    9: "Deflate64",
    12: "bzip2",
    14: "LZMA",
    93: "Zstandard",
    95: "XZ",
    98: "PPMd",
    99: "AES encryption",
}


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Limits of a zip file, checked against its directory before anything is unpacked."""

    max_entries: int = 100_000
    max_total_bytes: int = 4 * 2**30  # of all entries, unpacked
    max_entry_bytes: int = 64 * 2**20  # of one entry, checked when it is read
    max_ratio: int = 200  # unpacked bytes per packed byte
    max_name_bytes: int = 1024  # of a path; each file or folder name in it has at most 255


@dataclass(frozen=True, slots=True)
class Record:
    """One entry as stated in the central directory. `number` counts from 1."""

    number: int
    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int

    @property
    def title(self) -> str:
        return entry_title(self.number, self.name)


def read_directory(file: BinaryIO, limits: ArchiveLimits) -> tuple[list[Record], int, tuple[str, ...]]:
    """Read and check the central directory. Returns its records, the offset where it starts, and notes on names."""
    size = file.seek(0, 2)
    directory = _find_directory(file, size, limits)
    records, notes = _read_records(file, directory, limits)
    _check_totals(records, limits)
    check_names([record.name for record in records])
    return records, directory.start, notes


@dataclass(frozen=True, slots=True)
class _Directory:
    start: int
    size: int
    count: int


def _find_directory(file: BinaryIO, size: int, limits: ArchiveLimits) -> _Directory:
    """Find the end record whose comment reaches the end of the file, and the directory that ends where it begins."""
    tail_start = max(0, size - END.size - 0xFFFF)
    tail = read_at(file, tail_start, size - tail_start)
    ends = [at for at in _positions(tail, b"PK\x05\x06") if _ends_the_file(tail, at)]
    if not ends:
        malformed(
            "found no end-of-directory record, expected a complete zip file. Fix: check that the upload is complete"
        )
    if len(ends) > 1:
        malformed("found two ends of the directory, expected one. Fix: pack the archive again without a comment")
    _, disk, start_disk, here, count, directory_size, start, _ = END.unpack_from(tail, ends[0])
    end = tail_start + ends[0]
    if 0xFFFF in (here, count) or 0xFFFFFFFF in (directory_size, start) or _has_locator(file, end):
        end, disk, start_disk, here, count, directory_size, start = _read_end64(file, end)
    if disk or start_disk or here != count:
        malformed("found one part of an archive in several files, expected a single file. Fix: pack it unsplit")
    if count > limits.max_entries:
        too_large(f"found {count} entries, expected at most {limits.max_entries}. Fix: divide them into several zips")
    max_size = limits.max_name_bytes + count * (CENTRAL.size + _MAX_EXTRA_BYTES)
    if directory_size > max_size and directory_size <= end:
        too_large(
            f"found a directory of {directory_size} bytes for {count} entries, expected at most {max_size}. "
            "Fix: pack the files again without comments"
        )
    if start + directory_size != end:
        malformed(
            f"found the directory at {start} with {directory_size} bytes, expected it to end at {end}: "
            "bytes are missing, or there are extra bytes before the archive. Fix: pack or send the archive again"
        )
    return _Directory(start, directory_size, count)


def _ends_the_file(tail: bytes, at: int) -> bool:
    """Return True if the end record at `at` has a comment that reaches exactly to the last byte."""
    return at + END.size + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail)


def _has_locator(file: BinaryIO, end: int) -> bool:
    return end >= END64_LOCATOR.size and read_at(file, end - END64_LOCATOR.size, 4) == b"PK\x06\x07"


def _read_end64(file: BinaryIO, end: int) -> tuple[int, int, int, int, int, int, int]:
    locator_at = end - END64_LOCATOR.size
    if not _has_locator(file, end):
        malformed("found sizes that need a 64-bit end record, but no such record")
    _, disk, at, disks = END64_LOCATOR.unpack(read_at(file, locator_at, END64_LOCATOR.size))
    if disk or disks > 1:
        malformed("found one part of an archive in several files, expected a single file. Fix: pack it unsplit")
    if at + END64.size > locator_at:
        malformed("found a 64-bit end record that is not before its locator")
    magic, length, _, _, disk, start_disk, here, count, size, start = END64.unpack(read_at(file, at, END64.size))
    if magic != b"PK\x06\x06" or at + 12 + length != locator_at:
        malformed("found a 64-bit end record that does not end at its locator")
    return at, disk, start_disk, here, count, size, start


def _read_records(file: BinaryIO, directory: _Directory, limits: ArchiveLimits) -> tuple[list[Record], tuple[str, ...]]:
    """Return the records with their names, and notes on how names were decoded."""
    data = read_at(file, directory.start, directory.size)
    fields: list[tuple[int, ...]] = []
    stored: list[StoredName] = []
    at = 0
    for number in range(1, directory.count + 1):
        if at + CENTRAL.size > len(data) or data[at : at + 4] != b"PK\x01\x02":
            malformed(f"found the end of the directory at entry {number} of {directory.count}, expected more entries")
        entry = CENTRAL.unpack_from(data, at)
        names, extras, comments = entry[10:13]
        at += CENTRAL.size
        stored.append(StoredName(data[at : at + names], entry[3], data[at + names : at + names + extras]))
        fields.append(entry)
        at += names + extras + comments
        if at > len(data):
            malformed(f"found the end of the directory inside entry {number} of {directory.count}")
    if at != len(data):
        malformed(f"found {len(data) - at} bytes after the last of {directory.count} entries in the directory")
    names_of, notes = decode_names(stored, limits.max_name_bytes)
    numbered = enumerate(zip(names_of, stored, fields, strict=True), start=1)
    return [_record(number, *parts) for number, parts in numbered], notes


def _record(number: int, name: str, stored: StoredName, fields: tuple[int, ...]) -> Record:
    """Check one entry by itself: not encrypted, a known method, a file or a folder, sizes that agree."""
    _, _, _, flags, method, _, _, crc, packed, size, _, _, _, disk, _, attributes, offset = fields
    title = entry_title(number, name)
    if flags & ENCRYPTED:
        refuse("zip_encrypted", f"{title} is encrypted. Fix: pack without a password")
    if method not in (STORED, DEFLATED) or flags & PATCHED:
        known = f" ({_METHODS[method]})" if method in _METHODS else ""
        refuse(
            "zip_method_not_supported",
            f"{title}: found compression method {method}{known}, expected 0 (stored) or 8 (deflate). "
            "Fix: pack the folder again with the method Deflate",
        )
    size, packed, offset, disk = wide_fields(stored.extra, size, packed, offset, disk)
    if disk:
        malformed(f"{title} is in another file of a split archive, expected a single file. Fix: pack it unsplit")
    check_kind(name, attributes >> 16, number)
    if name.endswith("/") and size:
        malformed(f"{title}: found a folder with {size} bytes of data, expected none. Fix: pack the folder again")
    if method == STORED and packed != size:
        refuse(
            "zip_size_mismatch",
            f"{title}: found {packed} stored bytes, expected the {size} declared. Fix: pack the folder again",
        )
    return Record(number, name, stored.raw, flags, method, crc, packed, size, offset)


def _check_totals(records: list[Record], limits: ArchiveLimits) -> None:
    total, packed = sum(record.size for record in records), sum(record.packed for record in records)
    if total > limits.max_total_bytes:
        too_large(
            f"found {total} bytes unpacked, expected at most {limits.max_total_bytes}. "
            "Fix: save the images smaller, or divide them into several zips"
        )
    for record in records:
        if record.size > max(_FREE_OF_RATIO, limits.max_ratio * record.packed):
            too_large(
                f"{record.title}: found {record.size} bytes packed into {record.packed}, "
                f"expected at most {limits.max_ratio} times as many. Fix: pack it uncompressed (zip -0)"
            )
    if total > max(16 * _FREE_OF_RATIO, limits.max_ratio * packed):
        too_large(
            f"found {total} bytes packed into {packed}, expected at most {limits.max_ratio} times as many. "
            "Fix: pack uncompressed (zip -0)"
        )


def _positions(data: bytes, pattern: bytes) -> list[int]:
    return [match.start() for match in re.finditer(re.escape(pattern), data)]
