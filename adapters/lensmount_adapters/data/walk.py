"""Which names below a folder are looked at: systems' leftovers are passed over, links are followed, twins are refused.

The client has a copy of this module (`make options` writes it), so that it and the server find the same files.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from lensmount_adapters.characters import CONTROLS
from lensmount_adapters.data.refusal import refusal

MAX_PATH_BYTES = 1024  # of an image below the dataset, in UTF-8; the same in a zip (ArchiveLimits.max_name_bytes)
UNSEEN = "\ufeff\u200b\u2060"  # byte-order marks and empty spaces, which programs leave around names
MAX_FOLDERS = 32  # above one file

_LEFTOVERS = frozenset(
    {
        *("__macosx", "icon\r"),  # macOS
        *(
            "thumbs.db",
            "thumbs.db:encryptable",
            "ehthumbs.db",
            "ehthumbs_vista.db",
            "desktop.ini",
            "$recycle.bin",
            "recycler",
            "recycled",
        ),
        *("system volume information", "found.000"),  # Windows
        *("@eadir", "#recycle", "@recycle", "@recently-snapshot", "@tmp", "#snapshot", "lost+found"),  # storage
        *("picasa.ini", "zbthumbnail.info", "pspbrwse.jbf", "captureone"),  # programs that show photos
        *("__pycache__", "lost.dir", "network trash folder", "temporary items"),  # Python, Android, file servers
    }
)
_LEFTOVER_SUFFIXES = (".lrdata", ".lrcat", ".lrcat-data", ".xmp", ".aae", ".crdownload", ".part")


@dataclass(frozen=True, slots=True)
class Found:
    """One name below the folder that was walked: its path in Unicode's composed form (NFC), and the path to open.

    `kind`: "file", "folder", "hidden" (a file or folder that is passed over), "loop" (a link to a folder above it),
    "broken" (a link to nothing) or "special" (a pipe or a device).
    """

    path: str
    real: str
    kind: Literal["file", "folder", "hidden", "loop", "broken", "special"]


def is_passed_over(name: str) -> bool:
    """Return True for the name of a file or folder that is hidden, or that a system or a photo program leaves."""
    if name.startswith("."):
        return True
    lowered = name.lower()
    return lowered in _LEFTOVERS or lowered.endswith(_LEFTOVER_SUFFIXES)


def passed_over_part(path: str) -> str | None:
    """Return the first part of the path that is passed over, as `data/.git/`, or None if the path is looked at."""
    parts = path.split("/")
    for number, part in enumerate(parts, start=1):
        if is_passed_over(part):
            return "/".join(parts[:number]) + ("/" if number < len(parts) else "")
    return None


def composed(name: str) -> str:
    """The name in Unicode's composed form (NFC). macOS stores the other form."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def walk(root: str) -> Iterator[Found]:
    """Everything below `root`: in each folder sorted by name, first the files, then the folders. Nothing is opened.

    A link is followed like what it leads to, unless that is a folder above it. Raises a refusal that names a folder
    which cannot be read, and the names of two files that are one in Unicode's composed form.
    """
    waiting: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [("", root, (_identity(root),))]
    while waiting:
        prefix, folder, above = waiting.pop()
        below: list[tuple[str, str, tuple[tuple[int, int], ...]]] = []
        spelled: dict[str, str] = {}
        for entry in _entries(folder):
            name = composed(entry.name)
            if name in spelled:
                raise refusal(
                    f"{prefix}{name}: found two names that differ only in their Unicode form ({spelled[name]!a} and "
                    f"{entry.name!a}), expected one. Fix: rename one of them, or join the two folders"
                )
            spelled[name] = entry.name
            check_depth(prefix + name)
            found = _found(prefix + name, entry, above)
            if found.kind == "folder":
                below.append((f"{prefix}{name}/", entry.path, (*above, _identity(entry.path))))
            else:
                yield found
        for prefix_below, path, _ in below:
            yield Found(prefix_below.removesuffix("/"), path, "folder")
        waiting.extend(reversed(below))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise refusal(
            f"{folder}: the folder cannot be read ({error.strerror}). Fix: permit reading it, or move it elsewhere"
        ) from error


def _found(path: str, entry: os.DirEntry[str], above: tuple[tuple[int, int], ...]) -> Found:
    try:
        is_folder, is_file = entry.is_dir(), entry.is_file()
    except OSError:  # a link that leads to itself
        is_folder = is_file = False
    if is_passed_over(entry.name):
        return Found(f"{path}/" if is_folder else path, entry.path, "hidden")
    if is_folder:
        return Found(path, entry.path, "loop" if _identity(entry.path) in above else "folder")
    if is_file:
        return Found(path, entry.path, "file")
    return Found(path, entry.path, "broken" if entry.is_symlink() else "special")


def _identity(folder: str) -> tuple[int, int]:
    try:
        status = os.stat(folder)  # noqa: PTH116  the paths of a walk are texts
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def check_names(paths: Iterable[str]) -> None:
    """Raise a refusal for a path that is too long or no UTF-8, or for two that differ only in upper and lower case."""
    ordered = sorted((path.casefold(), path) for path in paths)
    for _, path in ordered:
        if (size := bytes_of(path)) > MAX_PATH_BYTES:
            raise refusal(
                f"{path}: found a path of {size} bytes below the dataset, expected at most {MAX_PATH_BYTES}. "
                "Fix: shorten the names of the file or of its folders"
            )
    for (_, path), (_, following) in pairwise(ordered):  # names that differ in case are neighbours here
        before: list[str] = []
        for name, other in zip(path.split("/"), following.split("/"), strict=False):
            if name != other:
                if name.casefold() == other.casefold():
                    first, second = ("/".join([*before, part]) for part in (name, other))
                    raise refusal(
                        f"found {first} and {second}, which differ only in upper and lower case, expected one "
                        "spelling. Fix: rename one of them, or join the two"
                    )
                break
            before.append(name)


def check_portable(path: str) -> None:
    """Raise a refusal for a path that a zip, a file of labels or another system would read in another way."""
    if control := CONTROLS.search(path):
        what = f"the control character {control[0]!r}"
    elif "\\" in path:
        what = "a backslash, which divides folders on Windows"
    elif re.match("[A-Za-z]:", path):
        what = "a letter and a colon at its beginning, which name a drive on Windows"
    elif path != bare(path):
        what = "a space, or a character that is not seen, at its beginning or end"
    else:
        return
    raise refusal(f"{path!r}: found {what}, expected a path that is the same everywhere. Fix: rename it")


def bare(text: str) -> str:
    """The text without spaces and characters that are not seen at its ends, as a cell of a table is read."""
    while (shorter := text.strip().strip(UNSEEN)) != text:
        text = shorter
    return text


def check_depth(path: str) -> None:
    """Raise a refusal if a file is below more than `MAX_FOLDERS` folders: no dataset is, but a hostile zip may be."""
    if path.count("/") > MAX_FOLDERS:
        raise refusal(
            f"{path}: found {path.count('/')} folders above this name, expected at most {MAX_FOLDERS}. "
            "Fix: move it up, or remove it"
        )


def bytes_of(path: str) -> int:
    """The size of a path in UTF-8. Raises a refusal if it has bytes that are not UTF-8."""
    try:
        return len(path.encode())
    except UnicodeEncodeError:
        raise refusal(f"{path!r}: found a name that is not UTF-8. Fix: rename the file or folder") from None


def is_input_name(path: str, suffixes: tuple[str, ...]) -> bool:
    """Return True if the path ends in one of the suffixes, in upper or lower case."""
    return path.lower().endswith(suffixes)


def order_of(path: str) -> tuple[str, ...]:
    """A sort key that orders paths folder by folder, as pathlib does."""
    return tuple(path.split("/"))


def listed_names(names: list[str], limit: int = 5) -> str:
    """The first names, for a message: "cat, dog and 3 more"."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
