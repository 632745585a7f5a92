from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lensmount_client import CannotWrite, InvalidInput
from lensmount_client._files.dataset_zip import Archive, open_archive


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, and what does not belong to them."""
    folder = tmp_path / "pets"
    for name in (
        "cat/b.png",
        "cat/a.PNG",
        "dog/deep/c.jpg",
        ".hidden.png",
        ".git/x.png",
        "notes.txt",
        "dog/labels.csv",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def content(archive: Archive) -> bytes:
    return archive.read(0, archive.size_bytes)


def names(archive: Archive) -> list[str]:
    return zipfile.ZipFile(archive.file).namelist()


def test_a_folder_becomes_a_zip_of_its_images_sorted_and_uncompressed(folder: Path) -> None:
    with open_archive(folder) as archive:
        entries = zipfile.ZipFile(archive.file).infolist()
        assert [entry.filename for entry in entries] == ["cat/a.PNG", "cat/b.png", "dog/deep/c.jpg"]
        assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
        assert zipfile.ZipFile(archive.file).read("cat/b.png") == b"cat/b.png"
        assert archive.digest == f"sha256:{hashlib.sha256(content(archive)).hexdigest()}"


def test_files_left_out_are_counted_by_kind(folder: Path) -> None:
    with open_archive(folder) as archive:
        assert archive.left_out == {".csv": 1, ".txt": 1, "hidden": 1, "hidden folders": 1}


@pytest.mark.parametrize("manifest", ["manifest.csv", "labels.csv", "manifest.jsonl"])
def test_a_manifest_at_the_top_travels_with_the_images(manifest: str, folder: Path) -> None:
    rows = {
        "manifest.jsonl": '{"path": "cat/b.png", "label": "x", "split": "test"}\n'
        '{"path": "dog/deep/c.jpg", "label": "y"}\n'
    }
    (folder / manifest).write_text(rows.get(manifest, "label,path,split\ny,dog/deep/c.jpg,\nx,cat/b.png,test\n"))
    with open_archive(folder) as archive:
        assert names(archive) == ["cat/b.png", "dog/deep/c.jpg", "manifest.jsonl"]
        assert zipfile.ZipFile(archive.file).read("manifest.jsonl").decode() == rows["manifest.jsonl"]


def test_the_bytes_depend_on_names_and_contents_alone(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    for path in sorted((p for p in folder.rglob("*") if p.is_file()), reverse=True):
        copy = other / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        copy.chmod(0o600)
        os.utime(copy, (1, 1))
    with open_archive(folder) as first, open_archive(other) as second:
        assert content(first) == content(second)
    (other / "cat/b.png").write_bytes(b"another")
    with open_archive(folder) as first, open_archive(other) as second:
        assert first.digest != second.digest


def test_an_archive_too_large_for_memory_is_on_disk_and_has_the_same_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_archive(folder) as small:
        monkeypatch.setattr("lensmount_client._files.dataset_zip.MEMORY_BYTES", 10)
        with open_archive(folder) as large:
            assert content(small) == content(large)


def test_a_zip_is_sent_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "pets.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/a.png", b"a" * 1000)
    with open_archive(path) as opened:
        assert (content(opened), opened.left_out) == (path.read_bytes(), {})


def empty_folder(path: Path) -> None:
    path.mkdir()


def only_text(path: Path) -> None:
    path.mkdir()
    (path / "a.svg").write_bytes(b"x")


def manifest_alone(path: Path) -> None:
    path.mkdir()
    (path / "manifest.csv").write_text("path,label\n")


def no_zip(path: Path) -> None:
    path.write_bytes(b"path,label\n")


def broken_link(path: Path) -> None:
    path.mkdir()
    (path / "a").mkdir()
    (path / "a" / "a.png").symlink_to("nowhere.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file or folder"),
        (empty_folder, "found no class folders and no images, expected images"),
        (only_text, "found no class folders and no images, expected images"),
        (manifest_alone, r"manifest\.csv: found no rows"),
        (no_zip, "not a zip"),
        (broken_link, "broken link"),
    ],
)
def test_a_path_that_is_not_a_dataset_is_refused(make: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    make(tmp_path / "x")
    with pytest.raises(InvalidInput, match=message):
        open_archive(tmp_path / "x")


def test_a_name_that_no_zip_can_hold_is_named(tmp_path: Path) -> None:
    try:
        (tmp_path / "b\udcff.png").write_bytes(b"x")
    except OSError:
        pytest.skip("this file system refuses names that are not UTF-8")
    with pytest.raises(InvalidInput, match="UTF-8"):
        open_archive(tmp_path)


def test_a_full_disk_names_the_archive_and_the_fix(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(CannotWrite, match="TMPDIR"):
        open_archive(folder)
