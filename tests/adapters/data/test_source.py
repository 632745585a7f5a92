"""A folder and a zip file of it have the same files, in the same order."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from lensmount_adapters.data.source import ArchiveSource, FolderSource, Source
from lensmount_adapters.zips.reader import open_archive

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
    return ArchiveSource(open_archive(tmp_path / "d.zip"), "d.zip").below(top)


def test_files_are_listed_folder_by_folder_and_hidden_ones_apart(source: Source) -> None:
    listing = source.list()

    assert listing.files == ("a/1.png", "a/deep/2.png", "a b/3.png", "notes.txt")
    assert listing.folders == ("a", "a/deep", "a b")
    assert listing.hidden == ("a/.DS_Store",)


def test_files_are_found_measured_and_read_by_their_listed_path(source: Source) -> None:
    for path in source.list().files:
        assert source.has(path)
        assert source.size(path) == len(FILES[path])
        assert source.read(path) == FILES[path]
    assert not source.has("a/9.png")


def test_folders_are_those_of_files_and_of_entries_and_what_is_passed_over_is_named_once(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for name in ("a/b/1.png", "__MACOSX/a/._1.png", "__MACOSX/a/._2.png", "a/@eaDir/x/1.png", "a/.x"):
            archive.writestr(name, b"x")
        for name in ("empty/deep/", ".git/", "a/"):
            archive.writestr(name, b"")

    listing = ArchiveSource(open_archive(tmp_path / "d.zip"), "d.zip").list()

    assert listing.files == ("a/b/1.png",)
    assert listing.folders == ("a", "a/b", "empty", "empty/deep")
    assert listing.hidden == (".git/", "__MACOSX/", "a/.x", "a/@eaDir/")
