"""Exports are made one at a time, kept while there is room, and given up by those who leave."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lensmount_adapters import Preprocessing
from lensmount_adapters.errors import ExportError
from lensmount_service.build import Parts
from lensmount_service.errors import QueueFull, StorageFull
from lensmount_service.store import exports as under_test
from lensmount_service.store.catalog import Snapshot
from lensmount_service.store.exports import Exports
from lensmount_service.store.references import Reference

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts


@pytest.fixture
def parts(make_parts: MakeParts) -> Iterator[Parts]:
    with make_parts() as parts:
        yield parts


@pytest.fixture
def snapshot(parts: Parts, make_adapter: MakeAdapter) -> Snapshot:
    parts.catalog.upload("cells", make_adapter(1))
    return parts.catalog.resolve(Reference("cells"))


@pytest.fixture
def exports(parts: Parts, tmp_path: Path) -> Iterator[Exports]:
    made = Exports(tmp_path / "exports", parts.catalog, 2**30)
    yield made
    made.close()


def read(exports: Exports, snapshot: Snapshot, to: str) -> bytes:
    exported = asyncio.run(exports.open(snapshot, to))
    with exported.file as file:
        file.seek(0)
        data = file.read()
    assert exported.size_bytes == len(data)
    assert exported.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    return data


def test_a_second_request_gets_the_same_file_without_a_new_export(
    exports: Exports, snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(exports, snapshot, "peft")
    monkeypatch.delattr(under_test, "export_zip")

    assert read(exports, snapshot, "peft") == first
    (path,) = (tmp_path / "exports").iterdir()
    assert "adapter_model.safetensors" in zipfile.ZipFile(path).namelist()


def test_the_export_asked_for_longest_ago_makes_room(parts: Parts, snapshot: Snapshot, tmp_path: Path) -> None:
    exports = Exports(tmp_path / "exports", parts.catalog, 1)

    for to in ("peft", "lycoris"):
        read(exports, snapshot, to)

    exports.close()
    assert [path.name[-11:] for path in (tmp_path / "exports").iterdir()] == ["lycoris.zip"]


def test_a_refusal_leaves_no_file_and_the_next_export_works(
    exports: Exports, parts: Parts, make_adapter: MakeAdapter, snapshot: Snapshot, tmp_path: Path
) -> None:
    rule = Preprocessing(size=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), orientations=8)
    parts.catalog.upload("turned", make_adapter(2, rule=rule))

    with pytest.raises(ExportError, match="averaged over 8 orientations"):
        read(exports, parts.catalog.resolve(Reference("turned")), "peft")

    assert list((tmp_path / "exports").iterdir()) == []
    assert read(exports, snapshot, "peft")


def test_more_requests_than_may_wait_are_told_to_come_back(
    exports: Exports, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    monkeypatch.setattr(under_test, "export_zip", lambda adapter, backbone, to, path: free.wait(30) and path.touch())

    async def crowd() -> list[Any]:
        waiting = [asyncio.ensure_future(exports.open(snapshot, "peft")) for _ in range(under_test.MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull, match="Fix: try again later"):
            await exports.open(snapshot, "peft")
        for left in waiting[1:]:
            left.cancel()
        free.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    first, *others = asyncio.run(crowd())
    first.file.close()
    assert all(isinstance(other, asyncio.CancelledError) for other in others)


def test_a_full_disk_is_said(exports: Exports, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(under_test, "export_zip", full)

    with pytest.raises(StorageFull, match="the disk is full"):
        read(exports, snapshot, "peft")


def test_what_an_earlier_process_left_is_removed_at_the_start(parts: Parts, tmp_path: Path) -> None:
    left = tmp_path / "exports" / ".half.zip.abc" / "files"
    left.mkdir(parents=True)

    Exports(tmp_path / "exports", parts.catalog, 1).close()

    assert not (tmp_path / "exports").exists()
