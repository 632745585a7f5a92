"""Which file a row of labels means."""

from __future__ import annotations

import pytest

from lensmount_adapters.data.finder import Finder
from lensmount_adapters.errors import DatasetError

FILES = ("a/1.png", "a/2.jpg", "b/1.png", "b/x y.png", "test/3.png", "train2017/3.png")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("a/1.png", "a/1.png"),
        ("2.jpg", "a/2.jpg"),
        ("2", "a/2.jpg"),
        ("B/1.PNG", "b/1.png"),
        ("/home/me/data/b/1.png", "b/1.png"),
        ("C:/data/a/1.png", "a/1.png"),
        ("b/x%20y.png", "b/x y.png"),
    ],
)
def test_a_path_is_found_by_itself_by_its_end_or_as_an_address(wanted: str, found: str) -> None:
    assert Finder(FILES, ()).file_of(wanted, "row 2", "labels.csv") == found


def test_of_several_files_the_one_in_the_stated_part_is_meant() -> None:
    find = Finder(FILES, ())

    assert find.file_of("3.png", "row 2", "x.json", "train") == "train2017/3.png"
    assert find.file_of("3.png", "row 2", "x.json", "test") == "test/3.png"
    with pytest.raises(
        DatasetError, match=r"could be each of test/3\.png, train2017/3\.png.*Fix: write the whole path"
    ):
        find.file_of("3.png", "row 2", "x.json")


def test_a_missing_file_is_named_with_one_of_nearly_its_name() -> None:
    with pytest.raises(DatasetError, match=r"row 2: found no file 'a/1\.jpg' next to l\.csv \(there is a/1\.png\)"):
        Finder(FILES, ()).file_of("a/1.jpg", "row 2", "l.csv")
    with pytest.raises(DatasetError, match=r"row 2: found 'n\.txt', expected an image.*Fix: convert it"):
        Finder(FILES, ("n.txt",)).file_of("n.txt", "row 2", "l.csv")
