"""The text and the cells of a CSV or JSON-lines file, in the dialects that spreadsheets write. Errors name the row.

The client has a copy of this module (`make options` writes it), so that it and the server read the same rows.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from lensmount_adapters.data.refusal import refusal
from lensmount_adapters.data.walk import UNSEEN, bare

MAX_LINE_CHARACTERS = 16 * 1024
DELIMITERS = ",;\t|"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# One or two of the letters of Western languages in Windows-1252, next to a letter of ASCII. In other encodings these
# bytes are letters of other alphabets, which come in words or stand alone.
_LETTERS = rb"[\xc0-\xcf\xd1-\xd6\xd8-\xdd\xdf-\xef\xf1-\xf6\xf8-\xfd]{1,2}"
_WESTERN = re.compile(rb"(?<=[A-Za-z])%b(?![\x80-\xff])|(?<![\x80-\xff])%b(?=[A-Za-z])" % (_LETTERS, _LETTERS))

Cells = Iterator[tuple[int, dict[str, Any]]]


def text_lines(name: str, data: bytes) -> list[str]:
    """The lines of a file, without line ends.

    UTF-8, UTF-16 and UTF-32 are recognised, and Windows-1252 if its only special bytes are Western letters.
    """
    is_zip = data.startswith(b"PK\x03\x04")  # as an Excel workbook is
    text = "" if is_zip else _decoded(name, data)
    if is_zip or "\0" in text.partition("\n")[0]:
        raise refusal(
            f"{name}: found a binary file, such as an Excel workbook, expected text. Fix: save it as CSV UTF-8"
        )
    text = text.lstrip(UNSEEN).replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE_CHARACTERS:
            refuse_row(
                name,
                number,
                f"found {len(line)} characters in one line, expected at most {MAX_LINE_CHARACTERS}. "
                "Fix: leave out the columns that have long texts",
            )
    return lines


def _decoded(name: str, data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _strictly(name, data[len(mark) :], encoding)
    head = data[:4096]
    if head[1::2].count(0) > len(head) // 4 and not head[::2].count(0):
        return _strictly(name, data, "utf-16-le")
    if head[::2].count(0) > len(head) // 4 and not head[1::2].count(0):
        return _strictly(name, data, "utf-16-be")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if _WESTERN.sub(b"", data).isascii():
            return data.decode("cp1252")
        refuse_row(
            name,
            _row_at(data[: error.start]),
            "found bytes that are not UTF-8. Fix: save it as UTF-8 (in Excel: 'CSV UTF-8')",
        )


def _strictly(name: str, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(encoding, "ignore")
        refuse_row(
            name,
            _row_at(before.encode("utf-8", "ignore")),
            f"found bytes that are not {encoding.upper()}, expected them after its byte-order mark. "
            "Fix: save it as UTF-8",
        )


def _row_at(before: bytes) -> int:
    return len(re.findall(rb"\r\n|\r|\n", before)) + 1


def csv_rows(name: str, lines: list[str], role_of: Callable[[str], str | None]) -> Cells:
    """The rows of a CSV file as (number, {column: cell}). Column names are in lower case, without spaces around them.

    The first row is yielded with cells of None. The delimiter is the one of comma, semicolon, tab and bar that gives
    the most columns with a role ("path", "label"). A first line such as `sep=;`, which Excel writes, is passed over.
    """
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if lines and re.fullmatch(r"sep=.", lines[first].strip().strip('"'), re.IGNORECASE):
        lines = [*lines[:first], "", *lines[first + 1 :]]
        first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    delimiter = max(DELIMITERS, key=lambda sign: _columns(lines[first], sign, role_of))
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, strict=True)
    header: list[str] = []
    number = 0
    try:
        for cells in reader:
            start, number = number + 1, reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [bare(cell).lower() for cell in cells]
                while header and not header[-1]:  # a delimiter at the end of each line
                    header.pop()
                if twice := [cell for cell in header if role_of(cell) and header.count(cell) > 1]:
                    refuse_row(
                        name,
                        start,
                        f"found the column {twice[0][:80]} twice, expected each once. Fix: rename or remove one",
                    )
                yield start, dict.fromkeys(header)
                continue
            while len(cells) > len(header) and not cells[-1].strip():
                cells.pop()
            if len(cells) != len(header):
                refuse_row(
                    name,
                    start,
                    f"found {len(cells)} cells, expected the {len(header)} of the first row. "
                    "Fix: put a cell that contains the delimiter into quotes",
                )
            yield start, dict(zip(header, map(cell_text, cells), strict=True))
    except csv.Error as error:
        raise refusal(
            f"{name}, row {number + 1}: found text that is not CSV ({str(error)[:80]}). Fix: correct its quotes"
        ) from error


def cell_text(cell: str) -> str:
    """The text of a cell without the apostrophe that keeps a spreadsheet from running it: `'=x` means `=x`."""
    return re.sub(r"^'(?='*[=+\-@\t\r])", "", cell)


def safe_cell(text: str) -> str:
    """The text as a cell that no spreadsheet runs: with an apostrophe before =, +, - or @. `cell_text` undoes it."""
    return re.sub(r"^(?='*[=+\-@\t\r])", "'", text)


def _columns(line: str, delimiter: str, role_of: Callable[[str], str | None]) -> tuple[int, int]:
    """How many columns with a role and how many columns the line has with this delimiter."""
    try:
        cells = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return (0, 0)
    return (len({role_of(cell.strip().lower()) for cell in cells} - {None}), len(cells))


def jsonl_rows(name: str, lines: list[str]) -> Cells:
    """The rows of a JSON-lines file as (number, {key: value}). Keys keep their spelling."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line, object_pairs_hook=_distinct_keys)
        except (ValueError, RecursionError) as error:
            raise refusal(
                f"{name}, row {number}: found text that is not a JSON object ({str(error)[:80]}). "
                "Fix: write one object per line, with each key once"
            ) from error
        if not isinstance(fields, dict):
            refuse_row(
                name,
                number,
                "found a value that is not a JSON object, expected one object per line. "
                'Fix: write lines such as {"path": "cats/1.png", "label": "cat"}',
            )
        yield number, fields


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key appears twice in one object, and parsers differ in which one they use")
    return fields


def refuse_row(name: str, number: int, message: str) -> NoReturn:
    """Raise a refusal that begins with the file and the row."""
    raise refusal(f"{name}, row {number}: {message}")
