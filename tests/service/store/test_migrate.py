from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import lensmount_service.build  # so that every module that defines a table is imported
from lensmount_service.errors import Unavailable, VersionDeleted
from lensmount_service.store.database import SCHEMA_VERSION, Database, metadata
from lensmount_service.store.migrate import newest_schema
from lensmount_service.store.references import Reference
from lensmount_service.store.registry import Registry

SCHEMAS = Path(__file__).with_name("schemas")
"""What released versions created, as their own code wrote it, with a few rows."""

RELEASED = (2, 3)  # on both kinds of database; schema 1 was SQLite's alone


@pytest.fixture
def database_url(empty_database_url: str | Path) -> str | Path:
    """These tests create the tables."""
    return empty_database_url


def statements(schema: int, database: Database) -> list[str]:
    kind = "postgresql" if database.is_postgresql else "sqlite"
    text = (SCHEMAS / f"schema_{schema}.{kind}.sql").read_text()
    return [part for part in re.split(r";\n", text) if part.strip()]


def create_old(schema: int, database: Database) -> None:
    with database.write() as connection:
        for statement in statements(schema, database):
            connection.exec_driver_sql(statement)


def shape(database: Database) -> dict[str, Any]:
    """Tables with their columns and indexes, without the table of Alembic."""
    with database.read() as connection:
        inspector = sa.inspect(connection)
        return {
            table: (
                sorted((c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)),
                inspector.get_pk_constraint(table)["constrained_columns"],
                sorted((str(i["name"]), i["column_names"]) for i in inspector.get_indexes(table)),
                sorted(u["column_names"] for u in inspector.get_unique_constraints(table)),
            )
            for table in inspector.get_table_names()
            if table != "alembic_version"
        }


def test_the_migrations_create_what_the_modules_define(database: Database) -> None:
    """If this fails: add a file to store/migrations/versions, as CONTRIBUTING.md says."""
    assert lensmount_service.build
    database.create()

    def differ(context: Any, column: Any, defined: Any, found: sa.types.TypeEngine[Any], wanted: Any) -> bool | None:
        lengths_alone = isinstance(found, sa.String) and isinstance(wanted, sa.String)
        return False if lengths_alone and not database.is_postgresql else None  # SQLite ignores lengths

    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": differ})
        assert compare_metadata(context, metadata) == []


def test_the_newest_schema_is_that_of_the_newest_file() -> None:
    assert newest_schema() == SCHEMA_VERSION >= 4


@pytest.mark.parametrize("schema", RELEASED)
def test_a_database_of_a_released_version_becomes_what_a_new_one_is(
    database: Database, schema: int, reopen: Callable[[], Database]
) -> None:
    create_old(schema, database)
    database.create()

    migrated = shape(database)
    database.migrate(1)
    database.create()
    assert shape(database) == migrated
    with reopen().read() as connection:
        assert connection.exec_driver_sql("SELECT version FROM aliases WHERE alias = 'prod'").scalar_one() == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM versions WHERE deleted").scalar_one() == 1


@pytest.mark.parametrize("schema", RELEASED)
def test_back_at_a_released_schema_the_tables_are_those_of_its_own_code(database: Database, schema: int) -> None:
    create_old(schema, database)
    released = shape(database)
    assert database.migrate() == schema
    assert shape(database) != released

    assert database.migrate(schema) == SCHEMA_VERSION
    assert shape(database) == released
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT version FROM lensmount_schema").scalar_one() == schema
        assert connection.exec_driver_sql("SELECT id, adapter FROM jobs").all() == [("j1", "cells")]
    assert database.migrate() == schema


@pytest.mark.parametrize("schema", [1, *RELEASED])
def test_a_state_folder_of_a_released_version_keeps_its_adapters(tmp_path: Path, schema: int) -> None:
    database = Database(tmp_path / "registry.sqlite3")
    create_old(schema, database)
    registry = Registry(database)
    assert registry.was_ever_published("cells")
    assert registry.digests() == {"sha256:" + "a" * 64}
    with pytest.raises(VersionDeleted):
        registry.resolve(Reference.parse("cells@2"))
    database.close()


def test_a_database_that_lacks_tables_of_its_schema_gets_them(database: Database) -> None:
    create_old(3, database)
    with database.write() as connection:
        connection.exec_driver_sql("DROP TABLE pool_leases")
        connection.exec_driver_sql("DROP TABLE workers")

    database.create()
    assert {"pool_leases", "workers"} <= set(shape(database))


KILLS = """
import os, shutil, signal, sqlite3, sys
from pathlib import Path
import sqlalchemy as sa
from lensmount_service.store.database import Database
import alembic.command

old, folder = Path(sys.argv[1]), Path(sys.argv[2])

def migrated(path, dies_before):
    if (child := os.fork()) == 0:
        database, seen = Database(path), []
        def count(connection, cursor, statement, *_):
            seen.append(statement)
            if len(seen) == dies_before:
                os.kill(os.getpid(), signal.SIGKILL)
        sa.event.listen(sa.Engine, "before_cursor_execute", count)
        database.create()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

for number in range(1, 1000, 4):
    path = folder / f"{number}.sqlite3"
    shutil.copy(old, path)
    alive = migrated(path, number)
    print(number, alive, sqlite3.connect(path).execute("PRAGMA user_version").fetchone()[0])
    if alive:
        break
"""


def test_a_kill_inside_a_migration_leaves_the_old_schema_which_then_migrates(tmp_path: Path) -> None:
    old = tmp_path / "old.sqlite3"
    database = Database(old)
    create_old(2, database)
    released = shape(database)
    database.close()

    ended = subprocess.run(
        [sys.executable, "-c", KILLS, str(old), str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    outcomes = [line.split() for line in ended.stdout.splitlines()]
    assert len(outcomes) > 8
    assert {tuple(rest) for _, *rest in outcomes[:-1]} == {("False", "2")}
    assert outcomes[-1][1:] == ["True", str(SCHEMA_VERSION)]
    for number, *_ in outcomes[:-1]:
        killed = Database(tmp_path / f"{number}.sqlite3")
        assert shape(killed) == released
        killed.create()
        with killed.read() as connection:
            assert connection.exec_driver_sql("SELECT id FROM jobs").scalar_one() == "j1"
        killed.close()


def test_a_database_with_the_newest_schema_is_opened_without_alembic(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite3"
    database = Database(path)
    database.create()
    database.close()
    script = (
        "import sys; from lensmount_service.store.database import Database; from pathlib import Path; "
        "Database(Path(sys.argv[1])).create(); print('alembic' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout.strip()) == (0, "False"), ended.stderr


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite3"
    database = Database(path)
    create_old(3, database)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE tokens (id INTEGER)")
    connection.close()
    before = shape(database)

    with pytest.raises(Unavailable, match="tokens"):
        database.create()
    assert shape(database) == before
    database.close()
