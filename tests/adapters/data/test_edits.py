"""Edits of a dataset: relabelled and excluded images, and what is refused with advice that works."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.adapters.conftest import DrawFolder

from lensmount_adapters.data.dataset import list_folder
from lensmount_adapters.data.edits import Edits
from lensmount_adapters.errors import DatasetError


@pytest.fixture
def folder(tmp_path: Path, draw_folder: DrawFolder) -> Path:
    return draw_folder(tmp_path, cat=3, dog=3)


def test_labels_change_images_go_and_the_rest_stays(folder: Path) -> None:
    listed = list_folder(folder)
    first, second, *others = listed.files

    edited = Edits({first.path: "dog"}, (second.path,)).applied_to(listed)

    assert {file.path: file.label for file in edited.files} == {
        first.path: "dog",
        **{file.path: file.label for file in others},
    }
    assert [file.label for file in edited.files] == sorted(file.label for file in edited.files)
    assert list_folder(folder).files == listed.files


def test_a_new_label_is_a_class(folder: Path) -> None:
    listed = list_folder(folder)

    edited = Edits({file.path: "owl" for file in listed.files[:2]}).applied_to(listed)

    assert edited.classes == ("cat", "dog", "owl")


def test_an_unknown_path_is_named_with_one_that_exists(folder: Path) -> None:
    listed = list_folder(folder)

    with pytest.raises(DatasetError, match=r"cat/9\.png.*expected paths such as") as refused:
        Edits(exclude=("cat/9.png",)).applied_to(listed)

    known = str(refused.value).split("such as '")[1].split("'")[0]
    assert len(Edits(exclude=(known,)).applied_to(listed).files) == 5


@pytest.mark.parametrize(
    ("relabel", "exclude", "message"),
    [
        ({"0": "dog"}, ("0",), "both relabelled and excluded"),
        ({"0": ""}, (), "empty label"),
        ({"0": "a\nb"}, (), "control character"),
        ({"0": "Dog"}, (), "upper and lower case"),
        ({"0": "cat|dog"}, (), "labels"),
        ({}, ("0", "1", "2"), r"found 1 class\(es\) after the changes"),
    ],
)
def test_it_refuses(folder: Path, relabel: dict[str, str], exclude: tuple[str, ...], message: str) -> None:
    listed = list_folder(folder)
    paths = [file.path for file in listed.files]
    edits = Edits({paths[int(i)]: label for i, label in relabel.items()}, tuple(paths[int(i)] for i in exclude))

    with pytest.raises(DatasetError, match=message):
        edits.applied_to(listed)
