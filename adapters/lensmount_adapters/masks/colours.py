"""Masks in colour: a table next to the images states the class of each colour.

`class_dict.csv` has the columns name, r, g, b (CamVid); `labelmap.txt` has lines `car:64,0,128::` (CVAT);
`label_colors.txt` has lines `64 0 128 car` (the first CamVid).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lensmount_adapters.data.dialect import csv_rows, text_lines
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.masks.index import MAX_INDEX_BYTES

TABLES = ("class_dict.csv", "labelmap.txt", "label_colors.txt")
DEFAULT_LABEL = "mask"  # if no labels are stated, every class of the table is this one
_BACKGROUND = frozenset({"background", "void", "unlabelled", "unlabeled", "unknown", "ignore", "ignored", "none"})
_IGNORED = frozenset({"void", "ignore", "ignored"})
VOID = -1  # the number of a colour whose pixels count as nothing
_COLUMNS = {
    **dict.fromkeys(("name", "label", "class", "class_name", "category"), "name"),
    **{"r": "r", "red": "r", "g": "g", "green": "g", "b": "b", "blue": "b"},
    **dict.fromkeys(("color", "colour", "rgb", "hex", "color_rgb"), "colour"),
}
_NAME_FIRST = re.compile(r"(?P<name>[^:]+):\s*(?P<colour>\d+\s*,\s*\d+\s*,\s*\d+)\s*(:|$)")
_COLOUR_FIRST = re.compile(r"(?P<colour>\d+[\s,]+\d+[\s,]+\d+)[\s,]+(?P<name>\S.*)")
SHOWN = 4  # colours in a message


@dataclass(frozen=True, slots=True, eq=False)
class Colours:
    """Colours as 0xRRGGBB, ascending, with the number of each one's label, from 1; 0 is background and VOID nothing."""

    file: str
    codes: np.ndarray  # uint32 [colours]
    numbers: np.ndarray  # int64 [colours]

    def values(self, pixels: np.ndarray) -> np.ndarray:
        """The number of the label [height, width] of each pixel, uint8 [height, width, 3]. Black is background.

        Raises DatasetError if a colour is not in the table.
        """
        red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
        codes = (red << 16) | (green << 8) | blue  # [height, width]
        places = np.searchsorted(self.codes, codes).clip(max=len(self.codes) - 1)
        known = self.codes[places] == codes
        strange = np.unique(codes[~known & (codes != 0)])
        if strange.size:
            shown = ", ".join(_hex(int(code)) for code in strange[:SHOWN])
            raise DatasetError(
                f"found {np.count_nonzero(~known & (codes != 0))} pixels of {strange.size} colour(s) that are not in "
                f"{self.file}, such as {shown}, expected the colours of the table. Fix: add these colours to "
                f"{self.file}, or export the masks without smoothing; if their values are the numbers of labels, "
                f"remove {self.file}"
            )
        return np.where(known, self.numbers[places], 0)


def table_of(files: Sequence[str]) -> str | None:
    """The table of colours among the files of a dataset, if there is one. Raises DatasetError if there are two."""
    found = [path for path in files if path.casefold() in TABLES]
    if len(found) > 1:
        raise DatasetError(f"found the tables of colours {' and '.join(found)}, expected one. Fix: remove the other")
    return found[0] if found else None


def read_colours(name: str, data: bytes, labels: Sequence[str]) -> tuple[Colours, tuple[str, ...]]:
    """Read a table of colours for these labels, and notes for the user.

    Labels are names of the table; classes that are not asked for are background. The label `mask` alone means every
    class but the background. Raises DatasetError that names the file and the row.
    """
    if len(data) > MAX_INDEX_BYTES:
        raise DatasetError(
            f"{name}: found {len(data)} bytes, expected at most {MAX_INDEX_BYTES}. Fix: keep one row each"
        )
    lines = text_lines(name, data)
    rows = list(_csv(name, lines) if name.lower().endswith(".csv") else _text(name, lines))
    classes: dict[int, str] = {}
    for number, label, code in rows:
        if classes.setdefault(code, label) != label:
            raise DatasetError(
                f"{name}, row {number}: found the colour {_hex(code)} for {label}, which {classes[code]} has as well, "
                "expected one class for each colour. Fix: correct one of the rows"
            )
    names = list(dict.fromkeys(label for label in classes.values() if not _is_background(label)))
    if not names:
        raise DatasetError(f"{name}: found no class but the background, expected one. Fix: add a row for each class")
    asked = {_key(label): number for number, label in enumerate(labels, start=1)}
    notes: tuple[str, ...] = ()
    if list(labels) == [DEFAULT_LABEL] and _key(DEFAULT_LABEL) not in map(_key, names):
        asked = {_key(label): 1 for label in names}
        if len(names) > 1:
            notes = (f"{name} has {len(names)} classes ({', '.join(names[:10])}), which are read as one label",)
    elif missing := [label for label in labels if _key(label) not in {_key(found) for found in classes.values()}]:
        raise DatasetError(
            f"{name}: found no colour for the label {missing[0]}, expected labels of this table: "
            f"{', '.join(names[:20])}. Fix: choose labels among them, or add the label with its colour"
        )
    elif others := [label for label in names if _key(label) not in asked]:
        notes = (f"{name}: {len(others)} class(es) are not among the labels and count as background: "
                 f"{', '.join(others[:10])}",)  # fmt: skip
    codes = np.array(sorted(classes), np.uint32)
    numbers = [
        asked.get(_key(label), VOID if code and _is_ignored(label) else 0) for code, label in sorted(classes.items())
    ]
    return Colours(name, codes, np.array(numbers)), notes


def _csv(name: str, lines: list[str]) -> Iterator[tuple[int, str, int]]:
    rows = csv_rows(name, lines, _COLUMNS.get)
    _, header = next(rows, (0, dict[str, str]()))
    columns: dict[str, str] = {}
    for column in header:
        columns.setdefault(_COLUMNS.get(column, ""), column)
    if "name" not in columns or not (columns.keys() >= {"r", "g", "b"} or "colour" in columns):
        raise DatasetError(
            f"{name}: found the columns {', '.join(header) or 'none'}, expected name, r, g, b. "
            "Fix: name the columns so in the first row"
        )
    for number, cells in rows:
        apart = columns.keys() >= {"r", "g", "b"}
        colour = ",".join(cells[columns[part]] for part in "rgb") if apart else cells[columns["colour"]]
        yield number, cells[columns["name"]].strip(), _code(name, number, colour)


def _text(name: str, lines: list[str]) -> Iterator[tuple[int, str, int]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _NAME_FIRST.match(line.strip()) or _COLOUR_FIRST.fullmatch(line.strip())
        if match is None:
            raise DatasetError(
                f"{name}, row {number}: found {line.strip()[:80]!r}, expected a name and a colour, such as "
                "car:64,0,128::. Fix: write it like this"
            )
        yield number, match["name"].strip(), _code(name, number, match["colour"])


def _code(name: str, number: int, colour: str) -> int:
    if match := re.fullmatch(r"#([0-9a-f]{6})", colour.strip().lower()):
        return int(match[1], 16)
    parts = re.findall(r"-?\d+(?:\.\d+)?", colour)
    if len(parts) == 3 and all(part.isdecimal() and int(part) <= 255 for part in parts):
        red, green, blue = map(int, parts)
        return (red << 16) | (green << 8) | blue
    raise DatasetError(
        f"{name}, row {number}: found the colour {colour.strip()[:80]!r}, expected three whole numbers from 0 to 255. "
        "Fix: correct it, such as 64,0,128"
    )


def _key(label: str) -> str:
    return label.strip().casefold().replace(" ", "_").replace("-", "_")


def _is_ignored(label: str) -> bool:
    return _key(label).strip("_") in _IGNORED


def _is_background(label: str) -> bool:
    return _key(label).strip("_") in _BACKGROUND


def _hex(code: int) -> str:
    return f"#{code:06x}"
