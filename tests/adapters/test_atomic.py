"""An atomic write leaves the old file or the new one, and nothing else in the folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lensmount_adapters.atomic import write_atomic


def test_the_new_bytes_replace_the_old_ones_with_readable_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"

    for data in (b"old", b"new and longer"):
        write_atomic(path, data)
        assert path.read_bytes() == data

    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_before_the_rename_leaves_the_old_file_alone(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomic(path, b"new")

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["a pipe", "a folder"])
def test_what_is_not_a_file_is_not_replaced_by_one(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.bin"
    path.mkdir() if kind == "a folder" else os.mkfifo(path)
    before = path.lstat().st_mode

    with pytest.raises(FileExistsError, match="found something else than a file"):
        write_atomic(path, b"data")

    assert [(found, found.lstat().st_mode) for found in tmp_path.iterdir()] == [(path, before)]
