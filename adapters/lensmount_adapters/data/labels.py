"""Read a CSV or JSON-lines file that states each image's label. Every error names its row.

The client has a copy of this module (`make options` writes it), so that it and the server read the same rows.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from lensmount_adapters.characters import CONTROLS, refused_character
from lensmount_adapters.data.dialect import csv_rows, jsonl_rows, refuse_row, text_lines
from lensmount_adapters.data.refusal import refusal
from lensmount_adapters.data.walk import bare, composed, listed_names

LABEL_FILES = (
    *("manifest.jsonl", "manifest.csv", "labels.csv"),
    *("labels.jsonl", "manifest.tsv", "labels.tsv"),
)
MAX_FILE_BYTES = 64 * 2**20
MAX_LABEL_CHARACTERS = 256  # the limit of an adapter's manifest, where labels end up
PARTS = ("train", "validation", "test")

_PART_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "holdout"), "test"),
}
# Columns by their role, the best name first. The names of the first line are ours; they win over the others.
_COLUMNS = {
    "path": (
        *("path", "filepath", "filename", "file", "imagepath", "imagefile", "imagefilename", "imagename"),
        *("image", "img", "imgpath", "imgname", "imageid", "imgid", "idcode", "imageindex", "picture", "photo", "id"),
    ),
    "label": (
        *("label", "class", "classname", "classlabel", "labelname", "category", "categoryname"),
        *("target", "diagnosis", "dx", "groundtruth", "species", "labels", "finding", "findings", "findinglabels"),
    ),
    "group": (
        *("group", "groupid", "patient", "patientid", "subject", "subjectid", "slide", "slideid"),
        *("case", "caseid", "participant", "participantid", "lesionid", "animalid"),
    ),
    "split": ("split", "part", "set", "fold", "subset", "partition"),
}
_ROLES = {name: role for role, names in _COLUMNS.items() for name in names}
_NO_PART = (
    "no part"  # a column such as `part` or `fold` has a value that names no part: the column means something else
)
_SEPARATORS = re.compile(r"\s*[|;,]\s*")
_SEVERAL = (
    "found several labels of one image ({}), expected one: an image has exactly one class. "
    "Fix: keep one label of each image, or train one adapter for each label"
)
_BOXES = frozenset(
    {
        *("xmin", "x_min", "bbox", "bbox_x", "encodedpixels", "encoded_pixels", "rle", "segmentation", "points"),
        *("region_shape_attributes", "region_attributes"),  # VGG's annotator VIA
    }
)
_FLAGS = ("0", "1", "0.0", "1.0", "true", "false")
_MISSING = frozenset(
    {
        *("NaN", "nan", "NA", "N/A", "n/a", "<NA>", "NULL", "null"),
        *("#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!"),
    }
)
_UNSEEN = "spaces, in characters that are not seen, or in how a number is written"


@dataclass(frozen=True, slots=True)
class Row:
    """One image: its path relative to the file, its label, and its group and part of the split if stated.

    A path that the file states as absolute (`C:/data/cats/1.png`, `/data/cats/1.png`) keeps that form.
    """

    number: int
    path: str
    label: str
    group: str | None
    split: str | None


def read_rows(name: str, data: bytes) -> list[Row]:
    """Read the rows of `name`. Its suffix tells the format: `.csv` and `.tsv` with a header, or `.jsonl`.

    Raises a refusal (`dataset_invalid`) that names the row: an unknown encoding, huge lines, missing columns or cells,
    a path twice or outside the folder, an unknown part, several labels of one image, labels that differ only in case.
    """
    if len(data) > MAX_FILE_BYTES:
        raise refusal(f"{name}: found {len(data)} bytes, expected at most {MAX_FILE_BYTES}. Fix: split the dataset")
    lines = text_lines(name, data)
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for number, cells, columns in _table(name, lines):
        row = _row(name, number, cells, columns)
        if row.path in seen:
            refuse_row(
                name,
                number,
                f"found {row.path[:80]!r} again, row {seen[row.path]} already has it. Fix: remove one of the rows",
            )
        seen[row.path] = number
        rows.append(row)
    if not rows:
        raise refusal(
            f"{name}: found no rows, expected one for each image. Fix: add a row for each", "dataset_too_small"
        )
    if any(row.split == _NO_PART for row in rows):
        rows = [replace(row, split=None) for row in rows]
    _check_labels(name, rows)
    return rows


def _table(name: str, lines: list[str]) -> Iterator[tuple[int, dict[str, Any], dict[str, str]]]:
    """Each row with its number and the column of each role."""
    if name.lower().endswith(".jsonl"):
        known: dict[tuple[str, ...], dict[str, str]] = {}
        for number, cells in jsonl_rows(name, lines):
            keys = tuple(cells)
            if keys not in known:
                usual = {"path": "path", "label": "label"} if known else {}
                known[keys] = usual | _columns(name, number, list(keys), [(number, cells)], not known)
            yield number, cells, known[keys]
        return
    table = csv_rows(name, lines, _role_of)
    number, header = next(table, (1, {}))
    if not header:
        refuse_row(
            name,
            1,
            "found nothing, expected a header with the columns path and label. "
            "Fix: write path,label in the first row, and a row for each image",
        )
    columns = _columns(name, number, list(header), table)
    for number, cells in table:
        yield number, cells, columns


def check_label(label: str) -> str | None:
    """Return why `label` cannot name a class, or None if it can."""
    if not label:
        return "found an empty label"
    if len(label) > MAX_LABEL_CHARACTERS:
        return f"found a label of {len(label)} characters, expected at most {MAX_LABEL_CHARACTERS}"
    if label != bare(label):
        return f"found a space, or a character that is not seen, at the beginning or end of the label {label!r}"
    found = refused_character(label)
    return f"found {found}, in a label" if found else None


def check_labels(labels: Iterable[str]) -> tuple[str, str, str] | None:
    """Why these labels cannot be classes, or None. The answer is (message, its label, the label that it is like).

    Labels must not look alike, and none of them may be several labels in one text, such as `infected|ring`.
    """
    labels = list(labels)
    spelled: dict[str, str] = {}
    for label in labels:
        other = spelled.setdefault(_folded(label), label)
        if other != label:
            how = "upper and lower case" if other.casefold() == label.casefold() else _UNSEEN
            return f"they differ only in {how}, expected one spelling. Fix: spell them alike", label, other
    uses = Counter(part for label in labels for part in set(_SEPARATORS.split(label)))
    for label in labels:
        several = [part for part in _SEPARATORS.split(label) if part]
        reused = [part for part in several if uses[part] > 1]
        if len(several) > 1 and ("|" in label or (";" in label and reused) or len(reused) == len(several)):
            return _SEVERAL.format(label[:80]), label, label
    return None


def _folded(label: str) -> str:
    """The label as it is seen: without case, invisible characters, differences of spaces, and the zeros of 1.0."""
    seen = label if label.isascii() else "".join(c for c in label if unicodedata.category(c) != "Cf")
    return re.sub(r"^([+-]?\d+)[.,]0+$", r"\1", " ".join(seen.casefold().split()))


def part_of(word: str) -> str | None:
    """The part of a split that a word names in any case: "Valid" is "validation", "test_set" is "test". Else None."""
    words = [part for part in re.split(r"[\s_.-]+", word.lower()) if part]
    named = [part for part in words if part not in ("set", "data", "dataset", "split", "images", "samples")]
    joined = "".join(named)  # hold-out
    return _PART_WORDS.get(joined) or _PART_WORDS.get(re.sub("(set|data)$", "", joined))  # trainset, testdata


def looks_like_part(name: str) -> str | None:
    """The part that one of the words of a name stands for: `seg_train`, `train2017`, `1-test`, `trainA`."""
    words = re.split(r"[\W\d_]+|(?<=[a-z])(?=[A-Z])", name)
    return part_of(name) or next((part for word in words if (part := part_of(word))), None)


def _role_of(column: str) -> str | None:
    return _ROLES.get(re.sub(r"[\s_-]+", "", column.lower()))


def _columns(
    name: str, number: int, header: list[str], table: Iterable[tuple[int, dict[str, Any]]], required: bool = True
) -> dict[str, str]:
    """The column of each role that the header has. Raises a refusal if it has none for the path or the label.

    `table` is read only to tell what a header without a label means.
    """
    by_role: dict[str, list[str]] = {role: [] for role in _COLUMNS}
    for column in header:
        if role := _role_of(column):
            by_role[role].append(column)
    columns: dict[str, str] = {}
    for role, found in by_role.items():
        exact = [column for column in found if column.lower() == role]
        if len(found) > 1 and not exact and role == "label":
            refuse_row(
                name,
                number,
                f"found the columns {' and '.join(found)}, and each could be the label, expected one. "
                "Fix: rename the one to use to label",
            )
        if found:
            order = _COLUMNS[role]
            columns[role] = (exact or sorted(found, key=lambda c: order.index(re.sub(r"[\s_-]+", "", c.lower()))))[0]
    missing = [role for role in ("path", "label") if role not in columns]
    if "label" in missing and required and (boxes := [column for column in header if column.lower() in _BOXES]):
        refuse_row(
            name,
            number,
            f"found the columns {listed_names(boxes)} of boxes or outlines, expected a label of the whole image. "
            "Fix: write a column label with the one label of each image",
        )
    if missing and required:
        if missing == ["label"] and (flags := _flag_columns(header, columns["path"], table)):
            refuse_row(
                name,
                number,
                f"found a column of 0 and 1 for each label ({listed_names(flags)}), which allows several labels of one "
                "image, expected one column label. Fix: add a column label with the one label of each image",
            )
        refuse_row(
            name,
            number,
            f"found no column {' and '.join(missing)} in {listed_names(header)}, expected path, label and optionally "
            f"group, split. Fix: {_way_to_columns(name)}",
        )
    return columns


def _way_to_columns(name: str) -> str:
    if name.lower().endswith(".jsonl"):
        return 'name the keys so: {"path": "cats/1.png", "label": "cat"}'
    return "name the columns so in the first row, separated by commas"


def _flag_columns(header: list[str], path: str, table: Iterable[tuple[int, dict[str, Any]]]) -> list[str]:
    """The columns, at least two, in which every row has 0 or 1, or true or false."""
    found = [column for column in header if column and column != path]
    rows = 0
    for _, cells in table:
        rows += 1
        found = [column for column in found if str(cells.get(column)).strip().lower() in _FLAGS]
    return found if rows and len(found) > 1 else []


def _row(name: str, number: int, cells: dict[str, Any], columns: dict[str, str]) -> Row:
    def cell(role: str) -> str | None:
        return _text(name, number, role, cells.get(columns.get(role, role)))

    path, label, split = cell("path"), cell("label"), cell("split")
    if path is None or label is None:
        what = "path" if path is None else "label"
        refuse_row(name, number, f"found no {what}, expected one in every row. Fix: write it, or remove the row")
    if (answer := cells.get("answer")) in ("reject", "ignore"):
        refuse_row(
            name,
            number,
            f"found the answer {answer!r} of Prodigy, which says that the label does not hold, expected accepted rows. "
            "Fix: remove the row",
        )
    if why := check_label(label):
        refuse_row(name, number, f"{why}. Fix: shorten or rename it")
    part = None if split is None else part_of(split)
    if split is not None and part is None:
        if columns["split"].lower() != "split":  # such as a body part, or the number of a fold
            part = _NO_PART
        else:
            refuse_row(
                name, number, f"found the split {split[:40]!r}, expected {', '.join(PARTS)} or nothing. Fix: write one"
            )
    return Row(number, _path(name, number, path), label, cell("group"), part)


def _text(name: str, number: int, what: str, value: Any) -> str | None:
    """Return a cell as text in its composed form, or None if it is empty. Numbers keep their written form."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= 10**18:
            refuse_row(
                name, number, f"found a huge number as {what}, expected at most 18 digits. Fix: put it in quotes"
            )
        return str(value)
    if isinstance(value, list) and what == "label" and len(value) < 2:
        value = value[0] if value else None
        return _text(name, number, what, value)
    if isinstance(value, float | bool) and what == "label":
        value = json.dumps(value) if math.isfinite(value) else None
        return _text(name, number, what, value)
    if isinstance(value, list) and what == "label":
        refuse_row(name, number, _SEVERAL.format(", ".join(map(str, value))[:80]))
    if not isinstance(value, str):
        refuse_row(
            name,
            number,
            f"found a {what} that is not text, expected text. Fix: write it in quotes, as in {what!r}: 'a'",
        )
    text = bare(value)
    if what == "path":
        found = "a control character" if CONTROLS.search(text) or re.search(r"[\ud800-\udfff]", text) else None
    else:
        found = refused_character(text)
    if found:
        refuse_row(name, number, f"found {found}, in its {what}. Fix: write it in one line of plain text")
    if len(text) > 1024:
        refuse_row(name, number, f"found {len(text)} characters as {what}, expected at most 1024. Fix: shorten it")
    return composed(text) or None


def _path(name: str, number: int, path: str) -> str:
    """The path with slashes, as a row of any system states it."""
    if re.match(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+://", path):
        refuse_row(
            name,
            number,
            f"found the web address {path[:80]!r}, expected the path of a file next to {name}. "
            "Fix: download the image and write its path",
        )
    path = path.removeprefix("file://").replace("\\", "/")
    drive = re.match(r"[A-Za-z]:", path)
    start = path[: drive.end()] if drive else ""
    root = "/" if path[len(start) :].startswith("/") else ""
    parts = [part for part in path[len(start) :].split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        refuse_row(
            name,
            number,
            "found an empty path or '..' in the path, expected one like cats/1.png. "
            "Fix: write the path from the folder of the file of labels on",
        )
    return start + root + "/".join(parts)


def _check_labels(name: str, rows: list[Row]) -> None:
    """Refuse several labels of one image, and labels that look alike."""
    first: dict[str, int] = {}
    for row in rows:
        first.setdefault(row.label, row.number)
    if found := check_labels(first):
        why, label, other = found
        if label != other:
            why = f"found the label {label[:80]!r}, and {other[:80]!r} in row {first[other]}: {why}"
        refuse_row(name, first[label], why)
    for label, number in first.items():
        if label in _MISSING and not name.lower().endswith(".jsonl"):
            refuse_row(
                name,
                number,
                f"found the label {label}, which programs write where a value is missing, expected a label. "
                "Fix: write the label or remove the row; if it is a class, give it another name",
            )
        if re.fullmatch(r"\[\s*(['\"]).*\1\s*\]", label):
            refuse_row(
                name,
                number,
                f"found the list {label[:80]} as label, expected one label. "
                "Fix: write the label alone, or train one adapter for each label",
            )
    once = sum(count == 1 for count in Counter(row.label for row in rows).values())
    numbers = [label for label in first if re.fullmatch(r"[+-]?\d*[.,]?\d+([eE][+-]?\d+)?", label)]
    fractions = [label for label in numbers if re.search(r"[.,]\d*[1-9]", label)]
    if len(first) > 2 and len(numbers) == len(first) and fractions and 2 * once > len(first):
        refuse_row(
            name,
            first[fractions[0]],
            f"found the number {fractions[0]} as label, and {len(first)} such numbers that hardly repeat, expected "
            "classes: a measurement cannot be a class. Fix: divide the numbers into a few ranges, and write the name "
            "of its range for each image",
        )
