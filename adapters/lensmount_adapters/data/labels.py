"""Read a CSV or JSON-lines file that states each image's label. Every error names its row."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.strict import distinct_keys

LABEL_FILES = ("manifest.jsonl", "manifest.csv", "labels.csv")
MAX_FILE_BYTES = 64 * 2**20
MAX_LINE_CHARACTERS = 16 * 1024
MAX_LABEL_CHARACTERS = 256  # the limit of an adapter's manifest, where labels end up
_COLUMNS = ("path", "label", "group", "split")


@dataclass(frozen=True, slots=True)
class Row:
    """One image: its path relative to the file, its label, and its group and part of the split if stated."""

    number: int
    path: str
    label: str
    group: str | None
    split: str | None


def read_rows(name: str, data: bytes) -> list[Row]:
    """Read the rows of `name`. Its suffix tells the format: `.csv` with a header, or `.jsonl` with one object per line.

    Raises DatasetError (`dataset_invalid`) that names the row: not UTF-8, huge lines, missing columns or cells, a path
    twice or outside the folder, an unknown part, a cell that a spreadsheet would execute.
    """
    if len(data) > MAX_FILE_BYTES:
        raise DatasetError(f"{name}: found {len(data)} bytes, expected at most {MAX_FILE_BYTES}")
    lines = _lines(name, data)
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for number, cells in _jsonl(name, lines) if name.lower().endswith(".jsonl") else _csv(name, lines):
        row = _row(name, number, cells)
        if row.path in seen:
            _refuse(name, number, f"found {row.path[:80]!r} again, row {seen[row.path]} already has it")
        seen[row.path] = number
        rows.append(row)
    if not rows:
        raise DatasetError(f"{name}: found no rows, expected one for each image", code="dataset_too_small")
    return rows


def check_label(label: str) -> str | None:
    """Return why `label` cannot name a class, or None if it can."""
    if not label:
        return "found an empty label"
    if len(label) > MAX_LABEL_CHARACTERS:
        return f"found a label of {len(label)} characters, expected at most {MAX_LABEL_CHARACTERS}"
    return "found a control character in a label" if re.search(r"[\x00-\x1f\x7f]", label) else None


def _lines(name: str, data: bytes) -> list[str]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _refuse(name, data.count(b"\n", 0, error.start) + 1, "found bytes that are not UTF-8. Fix: save it as UTF-8")
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE_CHARACTERS:
            _refuse(name, number, f"found {len(line)} characters in one line, expected at most {MAX_LINE_CHARACTERS}")
    return [line.removesuffix("\r") for line in lines]


def _csv(name: str, lines: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader((f"{line}\n" for line in lines), strict=True)
    header: list[str] = []
    number = 0
    try:
        for cells in reader:
            start, number = number + 1, reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = _header(name, start, cells)
                continue
            if len(cells) != len(header):
                _refuse(name, start, f"found {len(cells)} cells, expected the {len(header)} of the first row")
            yield start, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DatasetError(f"{name}, row {number + 1}: found text that is not CSV ({str(error)[:80]})") from error
    if not header:
        _refuse(name, 1, "found nothing, expected a header with the columns path and label")


def _header(name: str, number: int, cells: list[str]) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    if missing := [column for column in ("path", "label") if column not in header]:
        _refuse(
            name,
            number,
            f"found no column {' and '.join(missing)}, expected path, label and optionally group, split. "
            "Fix: name the columns in the first row, separated by commas",
        )
    if twice := [column for column in _COLUMNS if header.count(column) > 1]:
        _refuse(name, number, f"found the column {twice[0]} twice")
    return header


def _jsonl(name: str, lines: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line, object_pairs_hook=distinct_keys)
        except (ValueError, RecursionError) as error:
            raise DatasetError(
                f"{name}, row {number}: found text that is not a JSON object ({str(error)[:80]})"
            ) from error
        if not isinstance(fields, dict):
            _refuse(name, number, "found a value that is not a JSON object, expected one object per line")
        yield number, fields


def _row(name: str, number: int, cells: dict[str, Any]) -> Row:
    path = _text(name, number, "path", cells.get("path"))
    label = _text(name, number, "label", cells.get("label"))
    if path is None or label is None:
        _refuse(name, number, f"found no {'path' if path is None else 'label'}, expected one in every row")
    if why := check_label(label):
        _refuse(name, number, why)
    split = _text(name, number, "split", cells.get("split"))
    if split is not None and split not in PARTS:
        _refuse(name, number, f"found the split {split[:40]!r}, expected {', '.join(PARTS)} or nothing")
    return Row(number, _path(name, number, path), label, _text(name, number, "group", cells.get("group")), split)


def _text(name: str, number: int, what: str, value: Any) -> str | None:
    """Return a cell as text, or None if it is empty. Numbers keep their written form."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return (
            str(value)
            if abs(value) < 10**18
            else _refuse(name, number, f"found a huge number as {what}, expected at most 18 digits")
        )
    if not isinstance(value, str):
        _refuse(name, number, f"found a {what} that is not text, expected text")
    text = value.strip()
    if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text):
        _refuse(name, number, f"found a control character in its {what}")
    if text.startswith(("=", "+", "-", "@")) and not re.fullmatch(r"[+-]?\d+(\.\d+)?", text):
        _refuse(
            name,
            number,
            f"found a {what} that a spreadsheet would execute (it begins with {text[:1]!r}). Fix: rename it",
        )
    if len(text) > 1024:
        _refuse(name, number, f"found {len(text)} characters as {what}, expected at most 1024")
    return text or None


def _path(name: str, number: int, path: str) -> str:
    path = path.removeprefix("./")
    if "\\" in path or path.startswith("/") or re.match(r"[A-Za-z]:", path):
        _refuse(
            name, number, "found a backslash or an absolute path, expected one like cats/1.png, relative to this file"
        )
    if any(part in ("", ".", "..") for part in path.split("/")):
        _refuse(name, number, "found an empty part, '.' or '..' in the path, expected one like cats/1.png")
    return path


def _refuse(name: str, number: int, message: str) -> NoReturn:
    raise DatasetError(f"{name}, row {number}: {message}")


PARTS = ("train", "validation", "test")
