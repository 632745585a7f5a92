"""How folders state classes and parts. tests/test_layouts.py has the table of layouts; here are the finer points."""

from __future__ import annotations

import pytest

from lensmount_adapters.data.layout import by_folders, wrapping
from lensmount_adapters.errors import DatasetError


def folders_of(paths: list[str]) -> list[str]:
    return sorted({path[:at] for path in paths for at, sign in enumerate(path) if sign == "/"})


def labels(*paths: str, depth: int | None = None) -> dict[str, str]:
    return {file.path: file.label for file in by_folders("d", paths, folders_of([*paths]), depth).files}


@pytest.mark.parametrize(
    "unit", ["patient_01", "Patient7", "S12", "40X", "slide A", "P1", "2024-05-01", "case", "x", "00123"]
)
def test_folders_of_patients_slides_and_days_are_no_classes(unit: str) -> None:
    read = labels(f"cat/{unit}/1.png", "cat/patient_2/2.png", f"dog/{unit}/1.png")

    assert set(read.values()) == {"cat", "dog"}


@pytest.mark.parametrize("name", ["aca", "grade1", "Stage 2", "type_01", "birads4", "young", "left", "lung_aca"])
def test_folders_that_could_be_classes_are_refused_with_both_readings_and_both_ways_out_work(name: str) -> None:
    paths = (f"lung/{name}/1.png", "lung/other/2.png", "colon/other/3.png", f"colon/{name}/4.png")

    with pytest.raises(
        DatasetError, match=r"as 2 classes \(colon, lung\), or as 4.*--class-depth 1 or --class-depth 2"
    ):
        labels(*paths)

    assert set(labels(*paths, depth=1).values()) == {"lung", "colon"}
    assert set(labels(*paths, depth=2).values()) == {path.rpartition("/")[0] for path in paths}


@pytest.mark.parametrize(
    ("paths", "prefix"),
    [
        (["a/1.png", "b/2.png"], ""),
        (["top/a/1.png", "top/b/2.png"], "top/"),
        (["x/y/a/1.png", "x/y/b/2.png"], "x/y/"),
        (["x/y/z/a/1.png", "x/y/z/b/2.png"], "x/y/z/"),
        (["train/a/1.png", "train/b/2.png"], ""),
        (["a/1.png", "a/deep/2.png"], ""),
        (["top/a/1.png", "2.png"], ""),
        (["top/a/1.png", "top/b/2.png", "preview.png"], "top/"),
        (["x/top/a/1.png", "x/top/b/2.png", "preview.png"], ""),
    ],
)
def test_folders_around_the_data_are_passed_through(paths: list[str], prefix: str) -> None:
    assert wrapping(paths, ()) == prefix


def test_a_file_of_labels_marks_the_root() -> None:
    assert wrapping(["top/images/1.png", "top/images/2.png"], ["top/labels.csv"]) == "top/"
    assert wrapping(["images/1.png", "images/2.png"], ["labels.csv"]) == ""
    assert wrapping(["top/1.png", "top/2.png"], ["top/labels.csv"]) == "top/"


def test_a_path_above_the_depth_is_named() -> None:
    with pytest.raises(DatasetError, match=r"found b/3\.png with 1 folder\(s\) around it, expected 2"):
        labels("a/x/1.png", "a/y/2.png", "b/3.png", depth=2)
