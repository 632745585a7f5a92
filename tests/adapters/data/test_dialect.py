"""The text and the cells of tables, against Python's own codecs and tables by hand."""

from __future__ import annotations

import csv
import io

import pytest

from lensmount_adapters.data.dialect import cell_text, csv_rows, jsonl_rows, safe_cell, text_lines
from lensmount_adapters.errors import DatasetError

TEXT = "path,label\nkäse.png,größer\n"


def role(column: str) -> str | None:
    return column if column in ("path", "label") else None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_and_line_end_gives_the_same_lines(encoding: str, end: str) -> None:
    assert text_lines("x.csv", TEXT.replace("\n", end).encode(encoding)) == TEXT.split("\n")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("a,болезнь", "cp1251"),
        ("a,υγιής", "cp1253"),
        ("a,größer", "cp437"),
        ("a,größer", "mac-roman"),
        ("a,感染", "gbk"),
        ("a,中", "gbk"),
        ("a,犬", "shift-jis"),
    ],
)
def test_an_encoding_that_could_be_another_is_refused_with_its_row(text: str, encoding: str) -> None:
    with pytest.raises(DatasetError, match=r"x\.csv, row 2: found bytes that are not UTF-8.*Fix: save it as UTF-8"):
        text_lines("x.csv", f"path,label\n{text}\n".encode(encoding))


@pytest.mark.parametrize("data", [b"PK\x03\x04 of an Excel workbook", b"GIF89a\0\1", bytes(64)])
def test_a_binary_file_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(DatasetError, match=r"x\.csv: found a binary file, such as an Excel.*save it as CSV"):
        text_lines("x.csv", data)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_table_of_the_csv_module_is_read_with_any_delimiter(delimiter: str, quoting: int) -> None:
    rows = [["Path", " Label ", "note"], ["a b.png", "x;y", 'say "z", or|so'], ["", "", ""], ["c.png", "1", ""]]
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows(rows)  # type: ignore[arg-type]

    read = list(csv_rows("x.csv", file.getvalue().split("\n"), role))

    assert [(number, list(cells.values())) for number, cells in read[1:]] == [(2, rows[1]), (4, rows[3])]
    assert list(read[0][1]) == ["path", "label", "note"]


def test_the_first_line_of_excel_and_delimiters_at_the_ends_change_nothing() -> None:
    read = list(csv_rows("x.csv", ["sep=;", "path;label;;", "a.png;cat;;", ""], role))

    assert read[1:] == [(3, {"path": "a.png", "label": "cat"})]


@pytest.mark.parametrize("text", ["=x", "+ve", "-ve", "@x", "'=x", "''=x", "'x'", "x", "", "'", "\t=x"])
def test_a_cell_that_no_spreadsheet_runs_is_read_back(text: str) -> None:
    cell = safe_cell(text)

    assert not cell.startswith(("=", "+", "-", "@", "\t"))
    assert cell_text(cell) == text
    read = list(csv_rows("x.csv", ["path,label", f'a.png,"{cell}"'], role))
    assert read[1][1]["label"] == text


def test_json_lines_are_objects_with_their_numbers() -> None:
    assert list(jsonl_rows("x.jsonl", ["", '{"a": 1}'])) == [(2, {"a": 1})]
    with pytest.raises(DatasetError, match="row 1: found text that is not a JSON object"):
        list(jsonl_rows("x.jsonl", ["{"]))
