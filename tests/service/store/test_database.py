from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lensmount_service.errors import Unavailable
from lensmount_service.store.database import BUSY_TIMEOUT_S, SCHEMA_VERSION, Database
from lensmount_service.store.registry import Registry

notes = sa.Table("notes", sa.MetaData(), sa.Column("number", sa.Integer, primary_key=True))


@pytest.fixture
def database_url(empty_database_url: str | Path) -> str | Path:
    """These tests create the tables."""
    return empty_database_url


@pytest.fixture
def table(database: Database) -> sa.Table:
    database.create()
    with database.write() as connection:
        notes.create(connection)
    return notes


def test_sqlite_writes_through_to_the_disk(tmp_path: Path) -> None:
    database = Database(tmp_path / "registry.sqlite3")
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL
    database.close()


def test_creating_the_tables_twice_or_from_many_threads_has_one_effect(reopen: Callable[[], Database]) -> None:
    databases = [reopen() for _ in range(4)]
    threads = [threading.Thread(target=database.create) for database in databases for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Registry(databases[0]).entries() == []


def test_opening_an_existing_database_does_not_wait_for_a_writer(
    reopen: Callable[[], Database], database: Database
) -> None:
    database.create()
    with reopen().write():
        started = time.monotonic()
        reopen().create()
        assert time.monotonic() - started < BUSY_TIMEOUT_S


def test_a_failure_inside_a_transaction_leaves_nothing(database: Database, table: sa.Table) -> None:
    def break_off() -> None:
        with database.write() as connection:
            connection.execute(table.insert().values(number=1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    with database.read() as connection:
        assert connection.execute(sa.select(table)).all() == []


def test_writers_take_turns_so_that_what_one_read_is_still_true_when_it_writes(
    reopen: Callable[[], Database], database: Database, table: sa.Table
) -> None:
    def count_up() -> None:
        own = reopen()
        for _ in range(20):
            with own.write() as connection:
                last = connection.execute(sa.select(sa.func.max(table.c.number))).scalar_one() or 0
                connection.execute(table.insert().values(number=last + 1))

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 80


def test_a_reader_sees_one_snapshot_and_does_not_wait_for_a_writer(
    reopen: Callable[[], Database], database: Database, table: sa.Table
) -> None:
    with database.read() as reading:
        assert reading.execute(sa.select(table)).all() == []
        with reopen().write() as writing:
            writing.execute(table.insert().values(number=1))
            assert reading.execute(sa.select(table)).all() == []
        assert reading.execute(sa.select(table)).all() == []
    with database.read() as reading:
        assert len(reading.execute(sa.select(table)).all()) == 1


def test_the_clock_of_the_database_is_about_ours(database: Database) -> None:
    with database.read() as connection:
        assert abs(database.now(connection) - time.time()) < 5


def test_a_file_of_the_first_schema_keeps_its_adapters(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "CREATE TABLE versions (name VARCHAR(64) NOT NULL, version INTEGER NOT NULL, digest VARCHAR(71) NOT NULL,"
            " size_bytes INTEGER NOT NULL, created_at VARCHAR(32) NOT NULL, deleted BOOLEAN NOT NULL,"
            " manifest TEXT NOT NULL, PRIMARY KEY (name, version));"
            "CREATE TABLE aliases (name VARCHAR(64) NOT NULL, alias VARCHAR(64) NOT NULL, version INTEGER NOT NULL,"
            " PRIMARY KEY (name, alias));"
            "INSERT INTO aliases VALUES ('cells', 'prod', 1);"
            "PRAGMA user_version = 1"
        )
    connection.close()

    database = Database(path)
    registry = Registry(database)
    assert registry.entries() == []
    with database.read() as reading:
        assert reading.exec_driver_sql("SELECT accept_confidence FROM aliases").scalar_one() is None
        assert reading.exec_driver_sql("SELECT version FROM aliases").scalar_one() == 1
        assert reading.exec_driver_sql("PRAGMA user_version").scalar_one() == SCHEMA_VERSION
    database.close()


def test_a_newer_schema_is_refused(database: Database) -> None:
    database.create()
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE lensmount_schema SET version = 99")

    with pytest.raises(Unavailable, match="schema 99"):
        Registry(database)


def test_a_newer_sqlite_file_from_before_the_schema_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    database = Database(path)
    with pytest.raises(Unavailable, match="schema 99"):
        database.create()
    database.close()


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite3"
    path.write_bytes(b"not a database at all" * 100)

    database = Database(path)
    with pytest.raises(Unavailable):
        database.create()
    database.close()


@pytest.mark.parametrize("url", ["mysql://host/name", "nonsense", ""])
def test_another_kind_of_database_is_refused(url: str) -> None:
    with pytest.raises(Unavailable, match="expected postgresql://"):
        Database(url)


def test_an_unreachable_server_is_unavailable_and_not_a_crash() -> None:
    pytest.importorskip("psycopg")
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable) as refused, database.read():
        pass
    assert refused.value.code == "store_unavailable"


def test_a_writer_that_holds_the_lock_is_waited_for_and_then_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensmount_service.store.database.BUSY_TIMEOUT_S", 0.1)
    path = tmp_path / "registry.sqlite3"
    first, second = Database(path), Database(path)
    Registry(first)
    with first.write(), pytest.raises(Unavailable), second.write():
        pass
    first.close()
    second.close()


def test_the_stamp_changes_with_every_commit_and_with_nothing_else(
    reopen: Callable[[], Database], database: Database, table: sa.Table
) -> None:
    other = reopen()
    seen = [database.stamp()]
    for number, writer in enumerate((database, other, database, other)):
        with writer.write() as connection:
            connection.execute(table.insert().values(number=number))
            assert database.stamp() == seen[-1]  # not before it is committed
        seen.append(database.stamp())
    with database.read() as connection:
        connection.execute(sa.select(table)).all()
    with other.read() as connection:
        connection.execute(sa.select(table)).all()

    assert None not in seen
    assert len(set(seen)) == 5
    assert database.stamp() == seen[-1]


def test_without_a_file_there_is_no_stamp() -> None:
    nowhere = Database("sqlite://")
    assert nowhere.stamp() is None
    nowhere.close()


def test_after_its_connection_is_lost_there_is_no_stamp_and_then_a_new_one(database: Database, table: sa.Table) -> None:
    taken: list[Any] = []  # the drivers' connections that databases take from their pools

    def note(connection: Any, *_: object) -> None:
        taken.append(connection)

    sa.event.listen(sa.Pool, "checkout", note)
    try:
        before = database.stamp()
    finally:
        sa.event.remove(sa.Pool, "checkout", note)
    (connection,) = taken
    connection.close()

    assert database.stamp() is None
    assert database.stamp() not in (None, before)  # from another connection, whose count may start anywhere
