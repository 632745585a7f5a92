from __future__ import annotations

import errno
import json
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from lensmount_service.errors import ServiceError, StorageFull, StoreDamaged, Unavailable
from lensmount_service.store.database import Database
from lensmount_service.store.faults import fault_of_database, fault_of_disk, storage


@pytest.mark.parametrize(
    ("reason", "kind", "code"),
    [
        ("database or disk is full", StorageFull, "storage_full"),
        ("could not extend file: No space left on device", StorageFull, "storage_full"),
        ("attempt to write a readonly database", Unavailable, "store_read_only"),
        ("cannot execute INSERT in a read-only transaction", Unavailable, "store_read_only"),
        ("database disk image is malformed", StoreDamaged, "store_unavailable"),
        ("disk I/O error", Unavailable, "store_unavailable"),
        ("database is locked", Unavailable, "store_unavailable"),
        ("", Unavailable, "store_unavailable"),
    ],
)
def test_every_fault_of_a_database_is_one_of_the_service(reason: str, kind: type[ServiceError], code: str) -> None:
    for error in (
        sqlite3.OperationalError(reason),
        sa.exc.OperationalError("", None, sqlite3.OperationalError(reason)),
    ):
        fault = fault_of_database(error)
        assert (type(fault), fault.code) == (kind, code)


def test_a_locked_database_is_worth_another_try_and_a_damaged_one_is_not() -> None:
    assert fault_of_database(sqlite3.OperationalError("database is locked")).retry_after_s == 1
    damaged = fault_of_database(sqlite3.DatabaseError("file is not a database"))
    assert damaged.retry_after_s is None
    assert damaged.lasting  # so no client is told to wait
    assert "backup" in str(damaged)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "storage_full"),
        (errno.EDQUOT, "storage_full"),
        (errno.EROFS, "store_read_only"),
        (errno.EIO, "store_unavailable"),
        (errno.EMFILE, "store_unavailable"),
    ],
)
def test_every_fault_of_a_disk_is_one_of_the_service(number: int, code: str) -> None:
    error = OSError(number, "no")
    assert fault_of_disk(error, "the blobs").code == code
    with pytest.raises(ServiceError, match="the blobs") as caught, storage("the blobs"):
        raise error
    assert caught.value.code == code


def test_a_stored_text_that_cannot_be_read_is_damage_and_then_nothing_is_written(tmp_path: Path) -> None:
    database = Database(tmp_path / "registry.sqlite3")
    database.create()
    with pytest.raises(Unavailable, match="damaged"), database.read():
        json.loads("{")
    for _ in range(3):
        with pytest.raises(Unavailable, match="damaged"), database.write():
            pass
    with database.read() as connection:  # what can be read still is
        assert connection.exec_driver_sql("SELECT count(*) FROM versions").scalar_one() == 0
    database.close()


def test_errors_of_sqlalchemy_itself_are_translated_too(tmp_path: Path) -> None:
    database = Database(tmp_path / "registry.sqlite3")
    for error in (sa.exc.ResourceClosedError("gone"), sa.exc.TimeoutError("slow"), sqlite3.DatabaseError("raw")):
        with pytest.raises(Unavailable) as caught, database.read():
            raise error
        assert caught.value.code == "store_unavailable"
    database.close()
