"""The names in a zip file: decoded, checked as paths, and distinct on every system."""

from __future__ import annotations

import re
import stat
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from lensmount_adapters.characters import CONTROLS
from lensmount_adapters.zips.code_pages import CODE_PAGES, Guess, guess_code_page
from lensmount_adapters.zips.format import UTF8, entry_title, extra_field, malformed, quoted, refuse

MAX_PART_BYTES = 255  # of a file or folder name, as on every common file system
_UNICODE_PATH = 0x7075  # APPNOTE 4.6.9
_MANY_WRONG = 0.25  # of the characters outside ASCII: then no code page gives words


@dataclass(frozen=True, slots=True)
class StoredName:
    """A name as it stands in the central directory: its bytes, the entry's flags and its extra fields."""

    raw: bytes
    flags: int = 0
    extra: bytes = b""

    def stated(self) -> str | None:
        """The name, if its encoding is stated or certain: by the Unicode path field, or as UTF-8. None otherwise.

        The field has a checksum of the short name. If it does not match, a program that does not know the field has
        renamed the entry, and the field does not count. Raises UnicodeDecodeError if the UTF-8 flag is wrong.
        """
        field = extra_field(self.extra, _UNICODE_PATH)
        if len(field) > 5 and field[0] == 1 and int.from_bytes(field[1:5], "little") == zlib.crc32(self.raw):
            try:
                return field[5:].decode("utf-8")
            except UnicodeDecodeError:
                pass  # as if there were no field
        try:
            return self.raw.decode("utf-8")  # macOS and others write UTF-8 without setting the flag
        except UnicodeDecodeError:
            if self.flags & UTF8:
                raise
            return None


def decode_names(stored: Sequence[StoredName], max_bytes: int) -> tuple[list[str], tuple[str, ...]]:
    """Decode the names of an archive's entries in their order, and return them with notes on what was guessed.

    Names are in NFC. Raises ArchiveInvalid (`zip_bad_path`) that names the entry.
    """
    uncertain = [name.raw for name in stored if not name.flags & UTF8 and name.stated() is None]
    guess = guess_code_page(uncertain) if uncertain else None
    code_page = guess.code_page if guess else "cp437"
    names = [decode_name(name, number, max_bytes, code_page) for number, name in enumerate(stored, start=1)]
    notes: list[str] = []
    if guess is not None:
        others = sum(not name.raw.isascii() for name in stored) - len(uncertain)
        notes.append(_guessed(uncertain, guess, others))
    if turned := [name for kept, name in zip(stored, names, strict=True) if _has_backslash(kept, code_page)]:
        notes.append(
            f"{len(turned)} name(s) in the zip have backslashes, as Compress-Archive of Windows writes them; "
            f"they were read as folders, such as {turned[0][:80]!r}"
        )
    return names, tuple(notes)


def _has_backslash(stored: StoredName, code_page: str) -> bool:
    """Return True if the name itself has one, and not only a character of a code page whose second byte is the same."""
    return b"\\" in stored.raw and "\\" in (stored.stated() or stored.raw.decode(code_page))


def decode_name(stored: StoredName, number: int, max_bytes: int, code_page: str = "cp437") -> str:
    """Decode the name of entry `number` and check that it is a path inside the archive. The result is in NFC.

    Backslashes between folders, as Windows PowerShell writes them, become slashes.
    """
    try:
        name = stored.stated()
    except UnicodeDecodeError:
        shown = stored.raw.decode("utf-8", "backslashreplace")
        _bad_path(number, shown, "found a name that is not UTF-8, although its flag says so", "pack the folder again")
    name = unicodedata.normalize("NFC", stored.raw.decode(code_page) if name is None else name)
    size = max(len(stored.raw), len(name.encode()))
    if size > max_bytes:
        _bad_path(number, name, f"found a name of {size} bytes, expected at most {max_bytes}", "shorten its folders")
    if "\\" in name:
        if "/" in name:
            _bad_path(
                number, name, "found a backslash in a name with '/', expected folder/file", "rename it without the '\\'"
            )
        name = name.replace("\\", "/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        _bad_path(number, name, "found an absolute path, expected one inside the archive", "pack the folder itself")
    parts = name.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        _bad_path(
            number, name, "found an empty part, '.' or '..' in its name, expected folder/file", "pack the folder itself"
        )
    if not is_junk(name) and (control := CONTROLS.search(name)):
        _bad_path(
            number,
            name,
            f"found the control character {control[0]!r} in its name, expected printable characters",
            "rename it, or leave it out of the zip",
        )
    if (longest := max(len(part.encode()) for part in parts)) > MAX_PART_BYTES:
        _bad_path(
            number,
            name,
            f"found a file or folder name of {longest} bytes, expected at most {MAX_PART_BYTES}",
            "give it a shorter name",
        )
    return name


def is_junk(name: str) -> bool:
    """Return True for what macOS and others put into an archive: hidden files, `__MACOSX`, and icons of folders."""
    parts = name.removesuffix("/").split("/")
    return any(part.startswith(".") or part in ("__MACOSX", "Icon\r") for part in parts)


def check_kind(name: str, mode: int, number: int = 0) -> None:
    """Accept only files and folders. `mode` is the Unix mode, the upper half of the external attributes."""
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a symbolic link" if kind == stat.S_IFLNK else "a device or another special file"
        refuse(
            "zip_symlink",
            f"{entry_title(number, name)} is {what}, expected files and folders. "
            "Fix: pack the file itself (zip without -y), or leave it out",
        )
    if kind == stat.S_IFDIR and not name.endswith("/"):
        malformed(
            f"{entry_title(number, name)}: found the mode of a folder and the name of a file, expected both to agree. "
            "Fix: pack the folder again"
        )


def check_names(names: Sequence[str]) -> None:
    """Check that no name occurs twice, even ignoring case, and that no file is also a folder of another entry.

    Files that are passed over anyway (`is_junk`) may occur twice.
    """
    spelled: dict[str, tuple[str, int]] = {}
    junk = [is_junk(name) for name in names]
    for number, name in enumerate(names, start=1):
        if junk[number - 1]:
            continue
        earlier = spelled.setdefault(_folded(name.removesuffix("/")), (name.removesuffix("/"), number))
        if earlier[1] != number:
            why = "" if earlier[0] == name.removesuffix("/") else " (upper and lower case count as equal)"
            _duplicate(f"{entry_title(number, name)} occurs twice: entry {earlier[1]} is {quoted(earlier[0])}{why}")
    files = {name for name, is_left_out in zip(names, junk, strict=True) if not name.endswith("/") and not is_left_out}
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        parent = "" if junk[number - 1] else name.removesuffix("/").rpartition("/")[0]
        while parent and parent not in seen:
            seen.add(parent)
            if parent in files:
                _duplicate(f"{quoted(parent)} is both a file and a folder of {entry_title(number, name)}")
            other, at = spelled.setdefault(_folded(parent), (parent, number))
            if other != parent:
                _duplicate(f"{quoted(parent)} (entry {number}) and {quoted(other)} (entry {at}) differ only in case")
            parent = parent.rpartition("/")[0]


def _guessed(uncertain: Sequence[bytes], guess: Guess, others: int) -> str:
    """The note on names that were guessed. `others` is the number of names outside ASCII that were not."""
    doubt = "" if guess.wrong < _MANY_WRONG else "; no code page gives words, so the names may be wrong"
    if others:
        doubt += f"; {others} other name(s) are UTF-8, so the zip mixes encodings"
    if guess.odd:
        part, page = guess.odd[0]
        doubt += (
            f"; the zip may mix code pages: {_read(part, guess.code_page)} would be {_read(part, page)} in "
            f"{CODE_PAGES[page].title}"
        )
    return (
        f"{len(uncertain)} name(s) in the zip are not UTF-8; they were read as {CODE_PAGES[guess.code_page].title}, "
        f"such as {_read(uncertain[0], guess.code_page)}{doubt}{_other_readings(uncertain, guess)}. "
        "Fix if that is wrong: pack the folder with UTF-8 names (7-Zip: -mcu=on)"
    )


def _other_readings(uncertain: Sequence[bytes], guess: Guess) -> str:
    """What the other code pages make of a name that they read differently."""
    readings = []
    for page in guess.others:
        raw = next(raw for raw in uncertain if raw.decode(page) != raw.decode(guess.code_page))
        readings.append(
            f"{_read(raw, page)} instead of {_read(raw, guess.code_page)} if it was {CODE_PAGES[page].title}"
        )
    return f". It could also be {', or '.join(readings)}" if readings else ""


def _read(raw: bytes, code_page: str) -> str:
    return repr(unicodedata.normalize("NFC", raw.decode(code_page))[:80])


def _folded(name: str) -> str:
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def _bad_path(number: int, name: str, message: str, fix: str) -> NoReturn:
    refuse("zip_bad_path", f"{entry_title(number, name)}: {message}. Fix: {fix}")


def _duplicate(message: str) -> NoReturn:
    refuse("zip_duplicate_name", f"{message}. Fix: rename one of them")
