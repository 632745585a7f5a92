from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from lensmount_service.errors import StorageFull, Unavailable
from lensmount_service.store.blobs import BlobStore


def test_stored_bytes_come_back_under_their_digest(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"abc")

    assert digest == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert store.get(digest) == b"abc"
    assert store.digests() == {digest}


def test_the_bytes_are_synced_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, _real=real, _name=name: (calls.append(_name), _real(*a))[1])
    BlobStore(tmp_path).put(b"abc")

    assert calls == ["fsync", "replace", "fsync"]


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BlobStore(tmp_path)

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull):
        store.put(b"abc")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage", [lambda p: p.write_bytes(b"abd"), lambda p: p.unlink(), lambda p: p.write_bytes(b"ab")]
)
def test_a_damaged_or_missing_blob_is_never_returned(tmp_path: Path, damage: Any) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"abc")
    damage(tmp_path / digest.removeprefix("sha256:"))

    with pytest.raises(Unavailable) as caught:
        store.get(digest)
    assert caught.value.code == "adapter_corrupt"


def test_a_file_that_is_deleted_while_it_is_uploaded_again_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"abc")
    read_bytes = Path.read_bytes

    def deleted_first(path: Path) -> bytes:
        monkeypatch.undo()
        store.delete(digest)  # another thread deletes the file between the check and the reading
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", deleted_first)

    assert store.put(b"abc") == digest
    assert store.get(digest) == b"abc"
