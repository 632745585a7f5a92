"""A folder of labelled images is listed as a training would read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lensmount_client import InvalidInput
from lensmount_client._files.labelled_folder import labelled_folder


def make(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_png", ".png").replace("_csv", ".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def test_labels_are_those_of_folders_or_of_a_file_of_labels(tmp_path: Path) -> None:
    plain = labelled_folder(make(tmp_path / "plain", cat__1_png="a", dog__2_png="b"))
    assert [(image.path, image.label) for image in plain.images] == [("cat/1.png", "cat"), ("dog/2.png", "dog")]
    assert plain.labels == ["cat", "dog"]
    assert plain.read(plain.images[1]) == b"b"
    folder = make(tmp_path / "listed", x_png="a", y_png="b", labels_csv="path,label\nx.png,cat\ny.png,dog\n")
    for path in (folder, folder / "labels.csv"):
        assert [image.label for image in labelled_folder(path).images] == ["cat", "dog"]


def test_a_file_that_is_empty_or_gone_is_an_error_about_that_image(tmp_path: Path) -> None:
    folder = labelled_folder(make(tmp_path / "plain", cat__1_png="", dog__2_png="b"))
    with pytest.raises(InvalidInput, match=r"cat/1.png: the file is empty"):
        folder.read(folder.images[0])
    (tmp_path / "plain/dog/2.png").unlink()
    with pytest.raises(InvalidInput, match=r"dog/2.png: cannot be read"):
        folder.read(folder.images[1])
