"""Read index.csv, which describes images by columns, in the dialects that spreadsheets write.

The text may be UTF-8 or UTF-16. Cells are separated by commas, semicolons, tabs or bars, and lines end in any way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from lensmount_adapters.data.dialect import csv_rows, text_lines
from lensmount_adapters.data.walk import composed
from lensmount_adapters.errors import DatasetError

INDEX = "index.csv"
MAX_INDEX_BYTES = 64 * 2**20
FILE_COLUMNS = (
    "file", "file_name", "filename", "image", "image_file", "image_name", "image_path", "path", "file_path", "filepath",
    "name", "img", "image_id", "imageid", "id",
)  # fmt: skip
LISTED = 10


def rows_of(name: str, data: bytes) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a table and its rows, each with its line number. Empty lines are passed over.

    Raises DatasetError that names the file and the row: too large, not text, no CSV, another number of cells.
    """
    if len(data) > MAX_INDEX_BYTES:
        raise DatasetError(f"{name}: found {len(data)} bytes, expected at most {MAX_INDEX_BYTES}. Fix: split the file")
    found = list(csv_rows(name, text_lines(name, data), lambda column: column or None))
    if not found:
        raise DatasetError(
            f"{name}: found no rows, expected a header and a row for each image. "
            "Fix: write a header and a row for each image"
        )
    return list(found[0][1]), [(number, list(cells.values())) for number, cells in found[1:]]


def select(name: str, data: bytes, images: Sequence[str], where: str) -> tuple[set[str], tuple[str, ...]]:
    """Return the images whose row in the table has the value of `where`, "COLUMN=VALUE", and notes for the user.

    `images` are paths; a row names one by its path, a part of the path, or its name with or without suffix.
    Raises DatasetError.
    """
    wanted, _, value = (part.strip() for part in where.partition("="))
    header, rows = rows_of(name, data)
    file_column, column = _column(name, header, FILE_COLUMNS, wanted), _column(name, header, (wanted,), wanted)
    known, chosen, strangers = paths_by_name(images), dict[str, tuple[str, int]](), list[str]()
    for number, cells in rows:
        cell, found = cells[file_column].strip(), cells[column].strip()
        matches = matches_of(known, cell)
        if len(matches) > 1:
            raise DatasetError(
                f"{name}, row {number}: found {cell[:80]!r}, which names {' and '.join(matches[:2])}, expected one "
                "image. Fix: write its path"
            )
        if not matches:
            strangers.append(cell)
            continue
        before = chosen.setdefault(matches[0], (found, number))
        if before[0] != found:
            raise DatasetError(
                f"{name}, row {number}: found {wanted} {found[:40]!r} for {cell[:80]!r}, but {before[0][:40]!r} in row "
                f"{before[1]}. Fix: keep one of the rows"
            )
    selected = {image for image, (found, _) in chosen.items() if found == value}
    if not selected:
        values = sorted({cells[column].strip() for _, cells in rows})
        raise DatasetError(
            f"{name}: found no image with {where}, expected one of the values of {header[column]}: "
            f"{_listed(values) or 'none'}. Fix: choose one of them"
            + (f", or correct names such as {strangers[0][:80]!r}, which no image has" if strangers else "")
        )
    return selected, _notes(name, strangers, len(images) - len(chosen))


def _notes(name: str, strangers: list[str], without_row: int) -> tuple[str, ...]:
    notes: list[str] = []
    if strangers:
        notes.append(f"{name}: {len(strangers)} row(s) name no image that is there: {_listed(strangers)}")
    if without_row:
        notes.append(f"{name}: {without_row} image(s) have no row and are not used")
    return tuple(notes)


def _column(name: str, header: list[str], wanted: Sequence[str], where: str) -> int:
    folded = [cell.casefold().replace(" ", "_").replace("-", "_") for cell in header]
    for column in wanted:
        key = column.casefold().replace(" ", "_").replace("-", "_")
        for names, asked in ((header, column), (folded, key)):
            if names.count(asked) > 1:
                raise DatasetError(f"{name}: found the column {asked} twice, expected it once. Fix: rename one of them")
            if asked in names:
                return names.index(asked)
    raise DatasetError(
        f"{name}: found {', '.join(header)}, expected the columns file and {where}. "
        "Fix: name the column of file names file in the first row, and choose a column that is there"
    )


def paths_by_name(images: Sequence[str]) -> dict[str, list[str]]:
    """Each way to name an image: the ends of its path, with and without suffix."""
    known: dict[str, list[str]] = defaultdict(list)
    for path in images:
        parts = path.split("/")
        for start in range(len(parts)):
            whole = "/".join(parts[start:])
            for name in {_key(whole), _key(whole.rpartition(".")[0] or whole)}:
                known[name].append(path)
    return known


def matches_of(known: dict[str, list[str]], cell: str) -> list[str]:
    """The images that a cell may name, by the longest end of its path that one has. `known` is of `paths_by_name`."""
    parts = cell.replace("\\", "/").removeprefix("./").split("/")
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        if found := known.get(_key(end)):
            exact = [path for path in found if path.endswith((end, f"{end}{PurePosixPath(path).suffix}"))]
            return exact if len(exact) == 1 else found
    return []


def _key(name: str) -> str:
    return composed(name).casefold()


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(name[:80] for name in names[:LISTED])
    return shown + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
