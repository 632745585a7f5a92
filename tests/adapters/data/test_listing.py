"""The parts of a listing that the table of tests/test_layouts.py does not show."""

from __future__ import annotations

from pathlib import Path

import pytest

from lensmount_adapters.data.listing import FolderSource, counted, list_source
from lensmount_adapters.errors import DatasetError


def test_what_is_left_out_is_counted_the_most_frequent_first() -> None:
    assert counted({".txt": 1, "hidden": 3, ".csv": 1}) == "3 hidden, 1 .csv, 1 .txt"
    assert counted({}) == ""


def test_a_file_is_found_by_its_composed_name(tmp_path: Path) -> None:
    decomposed = "e\u0301/e\u0301.png"
    (tmp_path / decomposed).parent.mkdir()
    (tmp_path / decomposed).write_bytes(b"abc")
    source = FolderSource(tmp_path)

    assert source.list().files == ("\u00e9/\u00e9.png",)
    assert source.has("\u00e9/\u00e9.png")
    assert source.size("\u00e9/\u00e9.png") == 3
    assert source.below("\u00e9/").read("\u00e9.png") == b"abc"
    assert not source.has("\u00e9/\u00e8.png")


def test_a_depth_beside_a_file_of_labels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\n")
    with pytest.raises(DatasetError, match=r"found --class-depth 2 and labels\.csv, expected one of them\. Fix"):
        list_source(FolderSource(tmp_path), (".png",), 2)


def test_the_error_keeps_its_code_when_it_points_to_a_table(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"x")
    (tmp_path / "2.png").write_bytes(b"x")
    (tmp_path / "pets.csv").write_text("path,label\n1.png,cat\n2.png,dog\n")

    with pytest.raises(DatasetError, match=r"If pets\.csv has the labels, rename it to labels\.csv") as caught:
        list_source(FolderSource(tmp_path), (".png",))

    assert caught.value.code == "dataset_too_small"
    (tmp_path / "pets.csv").rename(tmp_path / "labels.csv")  # the advice
    assert list_source(FolderSource(tmp_path), (".png",)).classes == ("cat", "dog")
