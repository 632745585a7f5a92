"""index.csv is read in every dialect that spreadsheets write, and a row that names no image is said."""

from __future__ import annotations

import codecs
import itertools

import pytest

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.masks.index import rows_of, select

IMAGES = ["images/0.png", "images/1.png", "images/Ä b.png"]
TABLE = [["file", "kind"], ["0.png", "red"], ["1.png", "blue"], ["Ä b.png", "red"]]
RED = {"images/0.png", "images/Ä b.png"}

ENCODED = {
    "UTF-8": lambda text: text.encode(),
    "UTF-8 with BOM": lambda text: text.encode("utf-8-sig"),
    "UTF-16 with BOM": lambda text: text.encode("utf-16"),
    "UTF-16 BE with BOM": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "UTF-16 without BOM": lambda text: text.encode("utf-16-le"),
}


@pytest.mark.parametrize("encoding", ENCODED)
def test_encodings_separators_line_ends_and_quotes(encoding: str) -> None:
    tried = 0
    for separator, end, quote, last in itertools.product(",;\t|", ("\n", "\r\n", "\r"), ("", '"'), (True, False)):
        lines = [separator.join(f"{quote}{cell}{quote}" for cell in row) for row in TABLE]
        data = ENCODED[encoding](end.join(lines) + end * last)
        assert select("index.csv", data, IMAGES, "kind=red") == (RED, ()), (separator, end, quote)
        tried += 1
    assert tried == 48


def test_the_line_of_excel_that_states_the_separator_and_empty_lines_are_passed_over() -> None:
    data = b"sep=;\r\n\r\nfile;kind\r\n;\r\n0.png;red\r\n\r\n"

    assert rows_of("index.csv", data) == (["file", "kind"], [(5, ["0.png", "red"])])
    assert select("index.csv", data, IMAGES[:1], "kind=red") == ({"images/0.png"}, ())


def test_empty_columns_behind_the_table_are_passed_over() -> None:
    data = b"file,kind,,\n0.png,red,,\n1.png,blue\n"

    assert rows_of("index.csv", data) == (["file", "kind"], [(2, ["0.png", "red"]), (3, ["1.png", "blue"])])


def test_a_separator_in_quotes_and_a_decimal_comma_do_not_mislead() -> None:
    text = 'file;kind;share\n0.png;"red, dark; thin";0,5\n1.png;blue;0,25\n'

    assert select("index.csv", text.encode(), IMAGES[:2], "kind=red, dark; thin")[0] == {"images/0.png"}


@pytest.mark.parametrize(
    "column", ["file", "File", " FILE ", "filename", "File Name", "image", "image_path", "ImageId"]
)
@pytest.mark.parametrize(
    "cell",
    ["0.png", "0", "./0.png", "images/0.png", r"images\0.png", r"C:\data\set\images\0.png", "/data/0.PNG", " 0.png "],
)
def test_an_image_is_named_by_its_path_or_name_in_columns_of_common_names(column: str, cell: str) -> None:
    data = f"{column},Kind\n{cell},red \n".encode()

    assert select("index.csv", data, ["images/0.png"], " kind = red ") == ({"images/0.png"}, ())


def test_rows_without_an_image_and_images_without_a_row_are_named() -> None:
    found, notes = select("index.csv", b"file,kind\n0.png,red\n7.png,red\n", IMAGES, "kind=red")

    assert found == {"images/0.png"}
    assert notes == (
        "index.csv: 1 row(s) name no image that is there: 7.png",
        "index.csv: 2 image(s) have no row and are not used",
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "found no rows"),
        (b"file,kind\n0.png,red\n1.png\n", "row 3: found 1 cells, expected the 2 .*Fix: "),
        (b'file,kind\n0.png,"red\n', "row 2: found text that is not CSV .*Fix: "),
        (b"a,kind\n0.png,red\n", "found a, kind, expected the columns file and kind. Fix: name the column"),
        (b"file,color\n0.png,red\n", "found file, color, expected the columns file and kind"),
        (b"file,kind,kind\n0.png,red,blue\n", "the column kind twice"),
        (b"file,kind\n0.png,red\n0.png,blue\n", "row 3: found kind 'blue' for '0.png', but 'red' in row 2. Fix: "),
        (b"file,kind\n0.png,blue\n1.png,green\n", "kind=red, .* values of kind: blue, green. Fix: choose"),
        (b"file,kind\n9.png,red\n", "no image with kind=red.* names such as '9.png'"),
        ("file,kind\nä.png,red\n".encode("latin-1"), "row 2: found bytes that are not UTF-8.*Fix: save it as UTF-8"),
        (b"PK\x03\x04" + bytes(50), "binary file.*Fix: save it as CSV"),
        (b"file,kind\nx/0.png,red\n", "names a/images/0.png and b/images/0.png.*Fix: write its path"),
    ],
    ids=[
        "empty", "a short row", "an open quote", "no file", "no column", "a column twice", "two values",
        "another value", "other files", "Latin-1", "a zip", "two folders",
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_row_and_a_fix(data: bytes, message: str) -> None:
    images = ["a/images/0.png", "b/images/0.png"] if b"x/0" in data else IMAGES
    with pytest.raises(DatasetError, match=message):
        select("index.csv", data, images, "kind=red")


def test_two_images_that_differ_in_case_alone_are_told_apart() -> None:
    data = b"file,kind\na.png,red\nA.png,blue\n"

    assert select("index.csv", data, ["images/A.png", "images/a.png"], "kind=red")[0] == {"images/a.png"}
