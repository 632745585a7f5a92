"""Files on this machine: read them with clear errors, find them in folders and by patterns."""

from __future__ import annotations

import contextlib
import difflib
import glob
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from lensmount_client._errors import InvalidInput

MAX_NAMES = 1000  # of a folder that are compared with a missing name
IMAGE_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})  # what the server decodes


def read_file(path: str | Path) -> bytes:
    """Read all bytes; a file has at least one. Raises InvalidInput."""
    path = Path(path)
    try:
        if path.is_dir():
            raise InvalidInput(f"{path}: found a folder, expected a file")
        if path.exists() and not path.is_file():
            raise InvalidInput(f"{path}: not a regular file")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidInput(f"{path}: no such file{_suggestion(path)}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"{path}: cannot be read ({reason})") from error
    if not content:
        raise InvalidInput(f"{path}: the file is empty")
    return content


def _suggestion(path: Path) -> str:
    """A question about the file with the most similar name in the same folder; empty if there is none."""
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        names = [entry.name for entry in itertools.islice(entries, MAX_NAMES)]
        if close := difflib.get_close_matches(path.name, names, n=1, cutoff=0.7):
            return f". Did you mean {close[0]!r}?"
    return ""


def find_images(where: str | Path) -> Iterator[str]:
    """Paths in a folder (recursive, by image suffix, sorted, without hidden files), of a pattern, or of one file.

    A file that is named or matched by a pattern counts as an image, with any suffix. The search is lazy: a folder
    of a million images is walked as the paths are consumed. Raises InvalidInput if nothing is found.
    """
    text = os.fspath(where)
    if Path(text).is_dir():
        return _walk(text)
    if Path(text).exists():
        return iter([os.path.normpath(text)])
    if glob.has_magic(text):
        return _match(text)
    raise InvalidInput(f"{text}: no such file or folder")


def _walk(folder: str) -> Iterator[str]:
    empty = True
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                empty = False
                yield os.path.normpath(os.path.join(parent, name))  # noqa: PTH118  Path is 20 times slower
    if empty:
        raise InvalidInput(f"{folder}: no images in this folder ({' '.join(sorted(IMAGE_SUFFIXES))})")


def _match(pattern: str) -> Iterator[str]:
    paths = sorted(path for path in glob.iglob(pattern, recursive=True) if Path(path).is_file())  # noqa: PTH207
    if not paths:
        raise InvalidInput(f"{pattern}: no file matches")
    return map(os.path.normpath, paths)
