"""A folder and a zip file of it have the same files, in the same order."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from lensmount_adapters.data.source import ArchiveSource, FolderSource, Source
from lensmount_adapters.data.zip_reader import open_archive

FILES = {"a/1.png": b"one", "a/deep/2.png": b"two", "a b/3.png": b"three", "notes.txt": b"?", "a/.DS_Store": b"x"}


@pytest.fixture(params=["folder", "zip", "zip with a top folder"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    if request.param == "folder":
        for name, data in FILES.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
        return FolderSource(tmp_path)
    top = "top/" if "top" in request.param else ""
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for name, data in FILES.items():
            archive.writestr(top + name, data)
    return ArchiveSource.open(open_archive(tmp_path / "d.zip"), "d.zip", ("labels.csv",))


def test_files_are_listed_folder_by_folder_and_hidden_ones_apart(source: Source) -> None:
    listing = source.list()

    assert listing.files == ("a/1.png", "a/deep/2.png", "a b/3.png", "notes.txt")
    assert listing.folders == ("a", "a b")
    assert listing.hidden == ("a/.DS_Store",)


def test_files_are_found_measured_and_read_by_their_listed_path(source: Source) -> None:
    for path in source.list().files:
        assert source.has(path)
        assert source.size(path) == len(FILES[path])
        assert source.read(path) == FILES[path]
    assert not source.has("a/9.png")


def zipped(path: Path, *names: str) -> ArchiveSource:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return ArchiveSource.open(open_archive(path), "d.zip", ("labels.csv",))


def test_a_single_class_folder_is_not_a_top_folder(tmp_path: Path) -> None:
    assert zipped(tmp_path / "1.zip", "a/1.png", "a/deep/2.png").list().folders == ("a",)
    assert zipped(tmp_path / "2.zip", "top/labels.csv", "top/1.png").list().files == ("1.png", "labels.csv")
