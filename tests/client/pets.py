"""The dataset of the tests: a folder of two classes, its zip, and a client that does not wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lensmount_client import Client
from lensmount_client._api import upload as _upload
from lensmount_client._files.dataset_zip import open_archive

CHUNK = 100


def packed(folder: Path) -> bytes:
    with open_archive(folder) as archive:
        return archive.read(0, archive.size_bytes)


def hurried(url: str, **options: Any) -> Client:
    return Client(url, sleep=lambda seconds: None, **options)


def make_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    for name in ("cat/a.png", "cat/b.png", "dog/c.png", "dog/notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 20)
    return folder


def send_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads consist of chunks of `CHUNK` bytes; a refused one is halved down to 8 bytes."""
    monkeypatch.setattr(_upload.upload, "__defaults__", (CHUNK,))
    monkeypatch.setattr(_upload, "SMALLEST_CHUNK_BYTES", 8)
