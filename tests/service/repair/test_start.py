"""A start that cannot work says what was found, what was expected, and a fix; the tests follow the advice."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.service.states import Kept, settings_of

from lensmount_service import maintenance
from lensmount_service.errors import ServiceError, StorageFull, StoreDamaged, Unavailable
from lensmount_service.repair.start import require_usable
from lensmount_service.store.database import SCHEMA_VERSION, Database


def start(state: Path) -> None:
    require_usable(state, settings_of(state).database_url())


def refused(state: Path, kind: type[ServiceError] = Unavailable) -> str:
    with pytest.raises(kind) as caught:
        start(state)
    message = str(caught.value)
    assert re.search(r"found .*, expected .*\. Fix: ", message), message
    assert caught.value.retry_after_s is None  # so that the exit status is 78 for workers too
    return message


def test_a_new_folder_and_one_that_a_server_left_are_usable(tmp_path: Path, kept: Kept) -> None:
    start(tmp_path / "new")
    start(kept.folder)


def spoil_pages(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


def spoil_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(4096))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [spoil_pages, spoil_header, truncate])
def test_a_damaged_database_is_refused_and_the_advised_command_mends_it(
    kept: Kept, damage: Callable[[Path], None]
) -> None:
    damage(kept.folder / "registry.sqlite3")
    message = refused(kept.folder, StoreDamaged)
    assert f"`lensmount store recover --state {kept.folder}`" in message

    maintenance.recover(settings_of(kept.folder))
    start(kept.folder)


@pytest.mark.parametrize("left", [b"", None])
def test_files_without_their_database_are_refused_before_anything_removes_them(kept: Kept, left: bytes | None) -> None:
    database = kept.folder / "registry.sqlite3"
    database.unlink()
    if left is not None:
        database.write_bytes(left)
    message = refused(kept.folder)
    assert "found 4 adapters, 1 datasets, 1 images" in message
    assert f"`lensmount store recover --adopt --state {kept.folder}`" in message
    assert len(list((kept.folder / "blobs").iterdir())) == 4

    maintenance.recover(settings_of(kept.folder), adopt=True)
    start(kept.folder)
    assert len(list((kept.folder / "blobs").iterdir())) == 4


def test_a_newer_schema_is_refused(kept: Kept) -> None:
    with sqlite3.connect(kept.folder / "registry.sqlite3") as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    message = refused(kept.folder)
    assert f"found registry schema {SCHEMA_VERSION + 1}, expected at most {SCHEMA_VERSION}" in message


@pytest.mark.parametrize("name", ["", "blobs", "jobs", "audit"])
def test_a_file_instead_of_a_folder_is_refused_and_moving_it_helps(tmp_path: Path, name: str) -> None:
    state = tmp_path / "state"
    path = state / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    assert f"found a file at {path}, expected a folder" in refused(state)

    path.rename(tmp_path / "moved")
    start(state)


def test_a_folder_instead_of_the_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "registry.sqlite3").mkdir()
    assert "expected a database" in refused(tmp_path)
    (tmp_path / "registry.sqlite3").rmdir()
    start(tmp_path)


def test_a_full_disk_is_refused_with_what_may_be_removed(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(database: Database) -> None:
        raise StorageFull("the disk that holds the database is full")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "create", full)
        message = refused(kept.folder, StorageFull)
    for name in ("programs", "exports"):
        assert str(kept.folder / name) in message
        shutil.rmtree(kept.folder / name, ignore_errors=True)
    start(kept.folder)


def test_a_database_that_can_only_be_read_is_named(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(database: Database) -> None:
        raise Unavailable("the database can only be read now", code="store_read_only")

    monkeypatch.setattr(Database, "create", read_only)
    assert f"`chmod u+w {kept.folder / 'registry.sqlite3'}`" in refused(kept.folder)


def test_a_start_waits_for_no_recovery_that_runs(kept: Kept) -> None:
    from lensmount_service.state_folder import alone_in

    with alone_in(kept.folder), pytest.raises(Unavailable, match="in use: another command"):
        start(kept.folder)
    start(kept.folder)
