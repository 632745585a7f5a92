"""A zip file judged by its own bytes before anything in it is believed, and read without a second parser.

The interpreter's zipfile expands overlapping entries (CVE-2024-0450; fixed after Python 3.11.7) and takes declared
sizes at their word, so the central directory and every local header are read here. Nothing is ever unpacked to disk.
Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (sections by number below).
"""

from __future__ import annotations

import re
import stat
import struct
import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from lensmount_adapters.errors import ArchiveInvalid, DatasetError, DatasetTooLarge

STORED, DEFLATED = 0, 8


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What a zip file may not exceed; judged from its directory, before anything is unpacked."""

    max_entries: int = 100_000
    max_total_bytes: int = 4 * 2**30  # of all entries, unpacked
    max_entry_bytes: int = 64 * 2**20  # of one entry, when it is read
    max_ratio: int = 200  # unpacked to packed bytes
    max_name_bytes: int = 255


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a checked archive: its name, where its packed bytes lie and what they must unpack to."""

    name: str
    start: int
    packed: int
    size: int
    method: int
    crc: int


@dataclass(frozen=True, slots=True)
class Archive:
    """A checked zip file. `archive = open_archive(path)`, `archive.read("cat/1.png")`.

    No handle stays open: `read` may be called from many threads and by forked processes.
    """

    path: Path
    entries: Mapping[str, Entry]
    folders: tuple[str, ...]
    limits: ArchiveLimits

    def read(self, name: str) -> bytes:
        """The bytes of one file, unpacked; exactly as many as declared, with the declared checksum.

        Raises DatasetError where there is no such entry, ArchiveInvalid (`zip_size_mismatch`, `zip_malformed`),
        DatasetTooLarge (`zip_too_large`), OSError.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise DatasetError(f"found no {name[:80]!r} in the archive")
        if entry.size > self.limits.max_entry_bytes:
            _too_large(f"{_quoted(name)}: found {entry.size} bytes, expected at most {self.limits.max_entry_bytes}")
        with self.path.open("rb") as file:
            file.seek(entry.start)
            data = file.read(entry.packed) if entry.method == STORED else _inflate(file, entry)
        if len(data) != entry.size:
            _size_mismatch(entry, len(data))
        if zlib.crc32(data) != entry.crc:
            _malformed(f"{_quoted(name)}: the bytes fail their checksum. Fix: pack or send the archive again")
        return data


def open_archive(path: Path, limits: ArchiveLimits | None = None) -> Archive:
    """Judge the zip file at `path` by its central directory and its local headers.

    Raises ArchiveInvalid (`zip_malformed`, `zip_overlap`, `zip_size_mismatch`, `zip_bad_path`, `zip_symlink`,
    `zip_duplicate_name`, `zip_encrypted`, `zip_method_not_supported`), DatasetTooLarge (`zip_too_large`), OSError.
    """
    limits = limits or ArchiveLimits()
    with path.open("rb") as file:
        size = file.seek(0, 2)
        directory = _find_directory(file, size, limits)
        records = _read_directory(file, directory, limits)
        _check_totals(records, limits)
        _check_names(records)
        located = _locate(file, records, directory.start)
    entries = {entry.name: entry for entry in located if not entry.name.endswith("/")}
    return Archive(path, entries, tuple(e.name.rstrip("/") for e in located if e.name.endswith("/")), limits)


@dataclass(frozen=True, slots=True)
class _Directory:
    start: int
    size: int
    count: int


@dataclass(frozen=True, slots=True)
class _Record:
    """One entry as the central directory states it."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int


_END = struct.Struct("<4s4H2LH")  # 4.3.16
_END64_LOCATOR = struct.Struct("<4sLQL")  # 4.3.15
_END64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_CENTRAL = struct.Struct("<4s6H3L5H2L")  # 4.3.12
_LOCAL = struct.Struct("<4s5H3L2H")  # 4.3.7
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000  # 4.4.4: traditional, strong, masked headers
_DESCRIPTOR = 0x0008  # sizes follow the data
_PATCHED = 0x0020
_UTF8 = 0x0800
_CHUNK = 1 << 18
_MAX_EXTRA_BYTES = 1024  # of one entry in the directory: extra fields and comment
_FREE_OF_RATIO = 64 * 1024  # small files may pack as well as they like: their number is limited


def _find_directory(file: BinaryIO, size: int, limits: ArchiveLimits) -> _Directory:
    """The one end record whose comment ends with the file, and the directory that must end where it begins."""
    tail_start = max(0, size - _END.size - 0xFFFF)
    tail = _read_at(file, tail_start, size - tail_start)
    ends = [at for at in _positions(tail, b"PK\x05\x06") if _ends_the_file(tail, at)]
    if not ends:
        _malformed("found no end-of-directory record, expected a whole zip file. Fix: check that the upload is whole")
    if len(ends) > 1:
        _malformed("found two ends of the directory, expected one. Fix: pack the archive again without a comment")
    _, disk, start_disk, here, count, directory_size, start, _ = _END.unpack_from(tail, ends[0])
    end = tail_start + ends[0]
    if 0xFFFF in (here, count) or 0xFFFFFFFF in (directory_size, start) or _has_locator(file, end):
        end, disk, start_disk, here, count, directory_size, start = _read_end64(file, end)
    if disk or start_disk or here != count:
        _malformed("found one part of an archive in several files, expected a single file. Fix: pack it unsplit")
    if count > limits.max_entries:
        _too_large(f"found {count} entries, expected at most {limits.max_entries}")
    most = count * (_CENTRAL.size + limits.max_name_bytes + _MAX_EXTRA_BYTES)
    if directory_size > most and directory_size <= end:
        _too_large(f"found a directory of {directory_size} bytes for {count} entries, expected at most {most}")
    if start + directory_size != end:
        _malformed(
            f"found the directory at {start} with {directory_size} bytes, expected it to end at {end}: "
            "something is missing or stands in front of the archive"
        )
    return _Directory(start, directory_size, count)


def _ends_the_file(tail: bytes, at: int) -> bool:
    """Whether the end record at `at` has a comment that reaches exactly to the last byte."""
    return at + _END.size + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail)


def _has_locator(file: BinaryIO, end: int) -> bool:
    return end >= _END64_LOCATOR.size and _read_at(file, end - _END64_LOCATOR.size, 4) == b"PK\x06\x07"


def _read_end64(file: BinaryIO, end: int) -> tuple[int, int, int, int, int, int, int]:
    locator_at = end - _END64_LOCATOR.size
    if not _has_locator(file, end):
        _malformed("found sizes that need the 64-bit end record, and none")
    _, disk, at, disks = _END64_LOCATOR.unpack(_read_at(file, locator_at, _END64_LOCATOR.size))
    if disk or disks > 1:
        _malformed("found one part of an archive in several files, expected a single file. Fix: pack it unsplit")
    if at + _END64.size > locator_at:
        _malformed("found a 64-bit end record that does not lie in front of its locator")
    magic, length, _, _, disk, start_disk, here, count, size, start = _END64.unpack(_read_at(file, at, _END64.size))
    if magic != b"PK\x06\x06" or at + 12 + length != locator_at:
        _malformed("found a 64-bit end record that does not end at its locator")
    return at, disk, start_disk, here, count, size, start


def _read_directory(file: BinaryIO, directory: _Directory, limits: ArchiveLimits) -> list[_Record]:
    data = _read_at(file, directory.start, directory.size)
    records: list[_Record] = []
    at = 0
    for number in range(1, directory.count + 1):
        if at + _CENTRAL.size > len(data) or data[at : at + 4] != b"PK\x01\x02":
            _malformed(f"found the end of the directory at entry {number} of {directory.count}")
        fields = _CENTRAL.unpack_from(data, at)
        _, _, _, flags, method, _, _, crc, packed, size, names, extras, comments, disk, _, attributes, offset = fields
        at += _CENTRAL.size
        raw_name, extra = data[at : at + names], data[at + names : at + names + extras]
        at += names + extras + comments
        if at > len(data):
            _malformed(f"found the end of the directory inside entry {number} of {directory.count}")
        if flags & _ENCRYPTED:
            _refuse("zip_encrypted", f"entry {number} is encrypted. Fix: pack without a password")
        if method not in (STORED, DEFLATED) or flags & _PATCHED:
            _refuse(
                "zip_method_not_supported",
                f"entry {number}: found compression method {method}, expected 0 (stored) or 8 (deflate)",
            )
        size, packed, offset, disk = _wide(extra, size, packed, offset, disk)
        if disk:
            _malformed(f"entry {number} lies in another file of a split archive")
        name = _name(raw_name, flags, number, limits)
        _check_kind(name, attributes >> 16)
        if name.endswith("/") and size:
            _malformed(f"{_quoted(name)}: found a folder with {size} bytes of its own")
        if method == STORED and packed != size:
            _refuse("zip_size_mismatch", f"{_quoted(name)}: found {packed} stored bytes for {size} declared")
        records.append(_Record(name, raw_name, flags, method, crc, packed, size, offset))
    if at != len(data):
        _malformed(f"found {len(data) - at} bytes behind the last of {directory.count} entries in the directory")
    return records


def _wide(extra: bytes, size: int, packed: int, offset: int, disk: int) -> tuple[int, int, int, int]:
    """Sizes and offset from the 64-bit extra field (4.5.3) where the 32-bit ones say so."""
    wanted = [size == 0xFFFFFFFF, packed == 0xFFFFFFFF, offset == 0xFFFFFFFF, disk == 0xFFFF]
    if not any(wanted):
        return size, packed, offset, disk
    body = _extra_field(extra, 0x0001)
    values = [size, packed, offset, disk]
    at = 0
    for index, width in enumerate((8, 8, 8, 4)):
        if wanted[index]:
            if at + width > len(body):
                _malformed("found an entry of 64-bit size without its sizes")
            values[index] = int.from_bytes(body[at : at + width], "little")
            at += width
    return values[0], values[1], values[2], values[3]


def _extra_field(extra: bytes, kind: int) -> bytes:
    at = 0
    while at + 4 <= len(extra):
        found, length = struct.unpack_from("<HH", extra, at)
        if found == kind:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def _name(raw: bytes, flags: int, number: int, limits: ArchiveLimits) -> str:
    if len(raw) > limits.max_name_bytes:
        _bad_path(f"entry {number}: found a name of {len(raw)} bytes, expected at most {limits.max_name_bytes}")
    try:
        name = raw.decode("utf-8")  # macOS writes UTF-8 without saying so
    except UnicodeDecodeError:
        if flags & _UTF8:
            _bad_path(f"entry {number}: found a name that is not the UTF-8 it says it is")
        name = raw.decode("cp437")
    if "\\" in name or re.search(r"[\x00-\x1f\x7f]", name):
        _bad_path(f"entry {number}: found a backslash or a control character in its name, expected folder/file")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        _bad_path(f"entry {number}: found an absolute path, expected one inside the archive")
    if any(part in ("", ".", "..") for part in name.removesuffix("/").split("/")):
        _bad_path(f"entry {number}: found an empty part, '.' or '..' in its name, expected folder/file")
    return name


def _check_kind(name: str, mode: int) -> None:
    """Only files and folders: the upper half of the external attributes is the Unix mode."""
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        _refuse("zip_symlink", f"{_quoted(name)} is a link or a device, expected files and folders. Fix: pack the file")
    if kind == stat.S_IFDIR and not name.endswith("/"):
        _malformed(f"{_quoted(name)}: found a folder by its mode and a file by its name")


def _check_totals(records: list[_Record], limits: ArchiveLimits) -> None:
    total, packed = sum(record.size for record in records), sum(record.packed for record in records)
    if total > limits.max_total_bytes:
        _too_large(f"found {total} bytes unpacked, expected at most {limits.max_total_bytes}")
    for record in records:
        if record.size > max(_FREE_OF_RATIO, limits.max_ratio * record.packed):
            _too_large(
                f"{_quoted(record.name)}: found {record.size} bytes packed into {record.packed}, "
                f"expected at most {limits.max_ratio} times as many"
            )
    if total > max(16 * _FREE_OF_RATIO, limits.max_ratio * packed):
        _too_large(f"found {total} bytes packed into {packed}, expected at most {limits.max_ratio} times as many")


def _check_names(records: list[_Record]) -> None:
    """Each name once, also where upper and lower case are one, and no file that is another's folder."""
    spelled: dict[str, str] = {}
    for record in records:
        name = record.name.removesuffix("/")
        _take(spelled, name, record.name)
    files = {record.name for record in records if not record.name.endswith("/")}
    seen: set[str] = set()
    for record in records:
        parent = record.name.removesuffix("/").rpartition("/")[0]
        while parent and parent not in seen:
            seen.add(parent)
            if parent in files:
                _duplicate(f"{_quoted(parent)} is a file and a folder at once")
            if spelled.setdefault(_folded(parent), parent) != parent:
                _duplicate(f"{_quoted(parent)} and {_quoted(spelled[_folded(parent)])} differ only in case")
            parent = parent.rpartition("/")[0]


def _take(spelled: dict[str, str], name: str, shown: str) -> None:
    folded = _folded(name)
    if folded in spelled:
        _duplicate(f"{_quoted(shown)} stands twice (upper and lower case are one)")
    spelled[folded] = name


def _folded(name: str) -> str:
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def _locate(file: BinaryIO, records: list[_Record], directory_start: int) -> list[Entry]:
    """Each entry's data by its local header, which must agree with the directory; no two may share a byte."""
    order = sorted(range(len(records)), key=lambda index: records[index].offset)
    end = 0
    for record in (records[index] for index in order):  # before a local header is believed: its least extent
        if record.offset < end:
            _overlap(record)
        end = record.offset + _LOCAL.size + len(record.raw_name) + record.packed
    entries: dict[int, Entry] = {}
    end = 0
    for index in order:
        record = records[index]
        if record.offset < end:
            _overlap(record)
        if record.offset + _LOCAL.size > directory_start:
            _malformed(f"{_quoted(record.name)}: found its header behind the last data")
        header = _read_at(file, record.offset, _LOCAL.size + len(record.raw_name))
        magic, _, flags, method, _, _, crc, packed, size, names, extras = _LOCAL.unpack_from(header)
        if magic != b"PK\x03\x04":
            _malformed(f"{_quoted(record.name)}: found no local header where the directory points")
        if header[_LOCAL.size :] != record.raw_name or names != len(record.raw_name) or method != record.method:
            _malformed(f"{_quoted(record.name)}: found another name or method in its local header")
        if flags & _ENCRYPTED:
            _refuse("zip_encrypted", f"{_quoted(record.name)} is encrypted. Fix: pack without a password")
        start = record.offset + _LOCAL.size + names + extras
        if start > directory_start:
            _malformed(f"{_quoted(record.name)}: found its data behind the directory")
        if 0xFFFFFFFF in (size, packed):
            extra = _read_at(file, start - extras, extras)
            size, packed, _, _ = _wide(extra, size, packed, 0, 0)
        _check_agreement(record, flags, size, packed, crc)
        end = start + record.packed
        if end > directory_start:
            _overlap(record)
        entries[index] = Entry(record.name, start, record.packed, record.size, record.method, record.crc)
    return [entries[index] for index in range(len(records))]


def _check_agreement(record: _Record, flags: int, size: int, packed: int, crc: int) -> None:
    if flags & _DESCRIPTOR and (size, packed, crc) == (0, 0, 0):
        return
    if flags & _DESCRIPTOR and size in (0, record.size) and packed in (0, record.packed):
        return
    if (size, packed) != (record.size, record.packed):
        _refuse(
            "zip_size_mismatch",
            f"{_quoted(record.name)}: found {size} bytes in its local header, {record.size} in the directory",
        )
    if crc != record.crc:
        _malformed(f"{_quoted(record.name)}: found two checksums for one entry")


def _inflate(file: BinaryIO, entry: Entry) -> bytes:
    """Unpack, never holding more than one byte beyond the declared size."""
    inflate = zlib.decompressobj(-15)
    parts: list[bytes] = []
    found, left = 0, entry.packed
    try:
        while left and not inflate.eof:
            chunk = file.read(min(_CHUNK, left))
            if not chunk:
                break
            left -= len(chunk)
            parts.append(inflate.decompress(chunk, entry.size + 1 - found))
            found += len(parts[-1])
            if found > entry.size:
                _size_mismatch(entry, found)
    except zlib.error as error:
        raise ArchiveInvalid(
            f"{_quoted(entry.name)}: the packed bytes are damaged. Fix: pack or send the archive again",
            code="zip_malformed",
        ) from error
    if not inflate.eof or left or inflate.unused_data:
        _size_mismatch(entry, found)
    return b"".join(parts)


def _read_at(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    data = file.read(count)
    if len(data) != count:
        _malformed(f"found the end of the file at {at + len(data)}, expected {count - len(data)} bytes more")
    return data


def _positions(data: bytes, pattern: bytes) -> list[int]:
    return [match.start() for match in re.finditer(re.escape(pattern), data)]


def _quoted(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:77]}...")


def _refuse(code: str, message: str) -> NoReturn:
    raise ArchiveInvalid(message, code=code)


def _malformed(message: str) -> NoReturn:
    _refuse("zip_malformed", message)


def _bad_path(message: str) -> NoReturn:
    _refuse("zip_bad_path", message)


def _duplicate(message: str) -> NoReturn:
    _refuse("zip_duplicate_name", f"{message}. Fix: rename one of them")


def _overlap(record: _Record) -> NoReturn:
    _refuse("zip_overlap", f"{_quoted(record.name)}: its bytes are those of another entry or of the directory")


def _size_mismatch(entry: Entry, found: int) -> NoReturn:
    more = "more than " if found > entry.size else ""
    _refuse(
        "zip_size_mismatch",
        f"{_quoted(entry.name)}: found {more}{min(found, entry.size)} bytes, expected the {entry.size} declared",
    )


def _too_large(message: str) -> NoReturn:
    raise DatasetTooLarge(message)
