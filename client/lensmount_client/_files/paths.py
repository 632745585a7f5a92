"""Files on this machine: read them with clear errors, find them in folders and by patterns."""

from __future__ import annotations

import contextlib
import difflib
import glob
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lensmount_client._errors import InvalidInput
from lensmount_client._files.listing import LINKS, SPECIAL, counted
from lensmount_client._files.walk import check_names, is_input_name, walk

MAX_NAMES = 1000  # of a folder that are compared with a missing name
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/|(?i:(data):)")  # pathlib makes one slash of two
ONE_FILE = "a file on this machine"
FETCHING = {  # the way out for the URL of one file, by its scheme
    "data": "give its bytes: base64.b64decode(text.partition(',')[2])",
    "http": "fetch it, then give its bytes: httpx.get(URL).raise_for_status().content",
    "https": "fetch it, then give its bytes: httpx.get(URL).raise_for_status().content",
}
IMAGE_SUFFIXES = (  # what the server decodes
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
    *(".jp2", ".j2k", ".j2c", ".jpx", ".jpf", ".avif", ".heic", ".heif", ".dcm", ".dicom"),
)


def read_file(path: str | Path) -> bytes:
    """Read all bytes; a file has at least one. Raises InvalidInput."""
    refuse_url(path)
    path = Path(path)
    try:
        if path.is_dir():
            raise InvalidInput(f"{path}: found a folder, expected a file. Fix: name one of the files in it")
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


def refuse_url(path: str | Path, expected: str = ONE_FILE) -> None:
    """Raise InvalidInput for the text of a URL: nothing is fetched from elsewhere on a user's behalf."""
    found = _URL.match(os.fspath(path))
    if found is None or os.path.exists(path):  # noqa: PTH110  pathlib raises an error for some names
        return
    scheme = (found[1] or found[2]).lower()
    fix = FETCHING.get(scheme if expected == ONE_FILE else "", "download it, then give its path")
    raise InvalidInput(f"found a URL ({scheme}:...), expected {expected}, because URLs are not fetched. Fix: {fix}")


def _suggestion(path: Path) -> str:
    """A question about the file with the most similar name in the same folder; empty if there is none."""
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        names = [entry.name for entry in itertools.islice(entries, MAX_NAMES)]
        if close := difflib.get_close_matches(path.name, names, n=1, cutoff=0.7):
            return f". Did you mean {close[0]!r}?"
    return ""


def find_images(where: str | Path, left_out: Counter[str] | None = None) -> Iterator[str]:
    """Paths in a folder (recursive, by image suffix, sorted), of a pattern, or of one file.

    A folder gives the files that `datasets push` takes from it: hidden files and those that systems leave are passed
    over, links are followed. A file that is named or matched by a pattern counts as an image, with any suffix. The
    search is lazy: a folder of a million images is walked as the paths are consumed. `left_out` counts, by kind, what
    is passed over. Raises InvalidInput if nothing is found, or for a name that is not UTF-8.
    """
    refuse_url(where, "a folder, a pattern or a file on this machine")
    text = os.fspath(where)
    if is_folder(text):
        return _walk(text, Counter() if left_out is None else left_out)
    if os.path.exists(text):  # noqa: PTH110  pathlib raises an error for some names
        return iter([os.path.normpath(text)])
    if glob.has_magic(text):
        return _match(text)
    raise InvalidInput(f"{text}: no such file or folder")


def _walk(folder: str, left_out: Counter[str]) -> Iterator[str]:
    empty = True
    for found in walk(folder):
        if found.kind in ("file", "broken") and is_input_name(found.path, IMAGE_SUFFIXES):
            check_names([found.path])
            empty = False
            yield os.path.normpath(found.real)  # a broken link fails when it is read, with its name
        elif found.kind == "hidden":
            left_out["hidden folders" if found.path.endswith("/") else "hidden"] += 1
        elif found.kind in ("loop", "broken"):
            left_out[LINKS] += 1
        elif found.kind == "special":
            left_out[SPECIAL] += 1
        elif found.kind == "file":
            left_out[Path(found.path).suffix.lower() or "without a suffix"] += 1
    if empty:
        only = f"only {counted(left_out)}" if left_out else "nothing"
        raise InvalidInput(
            f"{folder}: found no images in this folder, {only}, expected {' '.join(sorted(IMAGE_SUFFIXES))} files. "
            "Fix: name the files themselves if they are images"
        )


def _match(pattern: str) -> Iterator[str]:
    paths = sorted(path for path in glob.iglob(pattern, recursive=True) if is_file(path))  # noqa: PTH207
    if not paths:
        raise InvalidInput(f"{pattern}: no file matches")
    return map(os.path.normpath, paths)


def is_file(path: str | Path) -> bool:
    """False too for a name that no file system takes, for which pathlib raises an error."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: str | Path) -> bool:
    """False too for a name that no file system takes."""
    return os.path.isdir(path)  # noqa: PTH112


def make_folder(path: Path, option: str) -> None:
    """Make the folder that `option` names, unless it is there. Raises InvalidInput, such as if a file is in the way."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"{option} {path}: this folder cannot be made ({reason})") from error
