"""Lists that state the images of each part of the split, such as ImageSets/Segmentation/train.txt of Pascal VOC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from lensmount_adapters.data.dialect import text_lines
from lensmount_adapters.data.labels import part_of
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.masks.index import LISTED, MAX_INDEX_BYTES, matches_of, paths_by_name

FOLDER = "imagesets/segmentation"


def lists_of(files: Sequence[str]) -> list[str]:
    """The files of a dataset that are such lists."""
    return [path for path in files if path.casefold().endswith(".txt") and path.rpartition("/")[0].casefold() == FOLDER]


def read_lists(
    title: str, lists: Sequence[str], read: Callable[[str], bytes], images: Sequence[str]
) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """Return the images that the lists name, each with its part of the split, and notes for the user.

    The part is None for a list of another name, such as trainval.txt or default.txt. Raises DatasetError that names the
    list and the row: a name of two images, or an image in two parts.
    """
    known, parts, strangers = paths_by_name(images), dict[str, str | None](), list[str]()
    for path in sorted(lists):
        part, data = part_of(PurePosixPath(path).stem), read(path)
        if len(data) > MAX_INDEX_BYTES:
            raise DatasetError(f"{path}: found {len(data)} bytes, expected at most {MAX_INDEX_BYTES}. Fix: split it")
        for number, line in enumerate(text_lines(path, data), start=1):
            if not line.strip():
                continue
            found = matches_of(known, line.strip())
            if len(found) > 1:
                raise DatasetError(
                    f"{path}, row {number}: found {line.strip()[:80]!r}, which names {' and '.join(found[:2])}, "
                    "expected one image. Fix: write its path"
                )
            if not found:
                strangers.append(line.strip()[:80])
                continue
            before = parts.get(found[0])
            if part is not None and before not in (None, part):
                raise DatasetError(
                    f"{path}, row {number}: found {found[0]}, which another list states for the part {before}, "
                    "expected one part for each image. Fix: remove it from one of the lists"
                )
            parts[found[0]] = before or part
    if not parts:
        raise DatasetError(
            f"{title}: found the lists {', '.join(lists)}, which name none of the {len(images)} images, such as "
            f"{', '.join(strangers[:1]) or 'none'}. Fix: write the names of images into them, or remove them"
        )
    notes = []
    if strangers:
        shown = ", ".join(strangers[:LISTED])
        notes.append(f"{', '.join(lists)}: {len(strangers)} row(s) name no image that is there: {shown}")
    if left := len(images) - len(parts):
        notes.append(f"{left} image(s) are in none of {', '.join(lists)} and are not used")
    return parts, tuple(notes)
