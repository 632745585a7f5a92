"""The names in a zip file: decoded, checked as paths, and distinct on every system."""

from __future__ import annotations

import re
import stat
import unicodedata
from collections.abc import Sequence
from typing import NoReturn

from lensmount_adapters.data.zip_format import UTF8, malformed, quoted, refuse


def decode_name(raw: bytes, flags: int, number: int, max_bytes: int) -> str:
    """Decode the name of entry `number` and check that it is a path inside the archive."""
    if len(raw) > max_bytes:
        _bad_path(f"entry {number}: found a name of {len(raw)} bytes, expected at most {max_bytes}")
    try:
        name = raw.decode("utf-8")  # macOS writes UTF-8 without setting the flag
    except UnicodeDecodeError:
        if flags & UTF8:
            _bad_path(f"entry {number}: found a name that is not UTF-8, although its flag says so")
        name = raw.decode("cp437")
    if "\\" in name or re.search(r"[\x00-\x1f\x7f]", name):
        _bad_path(f"entry {number}: found a backslash or a control character in its name, expected folder/file")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        _bad_path(f"entry {number}: found an absolute path, expected one inside the archive")
    if any(part in ("", ".", "..") for part in name.removesuffix("/").split("/")):
        _bad_path(f"entry {number}: found an empty part, '.' or '..' in its name, expected folder/file")
    return name


def check_kind(name: str, mode: int) -> None:
    """Accept only files and folders. `mode` is the Unix mode, the upper half of the external attributes."""
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        refuse(
            "zip_symlink",
            f"{quoted(name)} is a link or a device, expected files and folders. Fix: pack the file itself",
        )
    if kind == stat.S_IFDIR and not name.endswith("/"):
        malformed(f"{quoted(name)}: found the mode of a folder and the name of a file, expected both to agree")


def check_names(names: Sequence[str]) -> None:
    """Check that no name occurs twice, even ignoring case, and that no file is also a folder of another entry."""
    spelled: dict[str, str] = {}
    for name in names:
        folded = _folded(name.removesuffix("/"))
        if folded in spelled:
            _duplicate(f"{quoted(name)} occurs twice (upper and lower case count as equal)")
        spelled[folded] = name.removesuffix("/")
    files = {name for name in names if not name.endswith("/")}
    seen: set[str] = set()
    for name in names:
        parent = name.removesuffix("/").rpartition("/")[0]
        while parent and parent not in seen:
            seen.add(parent)
            if parent in files:
                _duplicate(f"{quoted(parent)} is both a file and a folder")
            if spelled.setdefault(_folded(parent), parent) != parent:
                _duplicate(f"{quoted(parent)} and {quoted(spelled[_folded(parent)])} differ only in case")
            parent = parent.rpartition("/")[0]


def _folded(name: str) -> str:
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def _bad_path(message: str) -> NoReturn:
    refuse("zip_bad_path", message)


def _duplicate(message: str) -> NoReturn:
    refuse("zip_duplicate_name", f"{message}. Fix: rename one of them")
