"""An exported zip is unpacked completely or not at all, and nothing in it leaves the folder."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from lensmount_client import DownloadedFile, InvalidInput, UnexpectedResponse
from lensmount_client._files.exported import ExportFolder


def zipped(path: Path, files: dict[str, str], method: int = zipfile.ZIP_STORED) -> DownloadedFile:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return DownloadedFile(path, "sha256:00", path.stat().st_size)


def test_the_folder_has_the_files_and_the_notes_are_read(tmp_path: Path) -> None:
    with ExportFolder(tmp_path / "new" / "out") as folder:
        sent = zipped(folder.zip_path, {"lensmount.json": '{"notes": ["mind"]}', "model.pt": "weights"})
        export = folder.unpack(sent, "timm")

    assert (export.path, export.to, export.digest) == (tmp_path / "new" / "out", "timm", "sha256:00")
    assert (export.files, export.notes) == (("lensmount.json", "model.pt"), ("mind",))
    assert (tmp_path / "new" / "out" / "model.pt").read_text() == "weights"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/b", "..", "a\\b"])
def test_a_name_that_leaves_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with ExportFolder(tmp_path / "out") as folder, pytest.raises(UnexpectedResponse, match="expected a plain file"):
        folder.unpack(zipped(folder.zip_path, {name: "x"}), "peft")

    assert list(tmp_path.iterdir()) == []


def test_a_compressed_entry_or_no_zip_is_refused(tmp_path: Path) -> None:
    with ExportFolder(tmp_path / "out") as folder, pytest.raises(UnexpectedResponse):
        folder.unpack(zipped(folder.zip_path, {"a": "x" * 10_000}, zipfile.ZIP_DEFLATED), "peft")
    with ExportFolder(tmp_path / "out") as folder:
        folder.zip_path.write_bytes(b"not a zip")
        with pytest.raises(UnexpectedResponse, match="not a zip of an export"):
            folder.unpack(DownloadedFile(folder.zip_path, "sha256:00", 9), "peft")

    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(InvalidInput, match="expected a new or empty folder"):
        ExportFolder(tmp_path)
