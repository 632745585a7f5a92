"""Where the images of a batch run come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from lensmount_client import InvalidInput
from lensmount_client._files.batch_source import LocalFiles


def test_each_image_of_folders_patterns_and_files_comes_once_in_the_same_order(tmp_path: Path) -> None:
    for name in ("a/2.png", "a/1.png", "b/3.jpg", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    places: list[str | Path] = [tmp_path / "a", str(tmp_path / "*/1.png"), tmp_path / "b" / "3.jpg"]
    expected = [str(tmp_path / name) for name in ("a/1.png", "a/2.png", "b/3.jpg")]
    source = LocalFiles(places)
    assert list(source.names()) == list(source.names()) == expected
    assert source.read(expected[2]) == b"b/3.jpg"
    assert list(LocalFiles([tmp_path]).names()) == expected


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        LocalFiles([tmp_path]).read(str(tmp_path / "gone.png"))
