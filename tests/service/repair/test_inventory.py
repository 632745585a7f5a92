from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.service.states import Kept
from tests.service.store.test_migrate import RELEASED, create_old

from lensmount_service.errors import StoreDamaged
from lensmount_service.repair.inventory import needed_files, reading_file
from lensmount_service.store.database import Database


def test_it_names_every_file_that_rows_need_and_who_needs_it(kept: Kept) -> None:
    with reading_file(kept.folder / "registry.sqlite3") as connection:
        needed = needed_files(connection)
    users = sorted((each.kind, each.users) for each in needed.values())
    assert users == [
        ("adapter", ("cells@1",)),
        ("adapter", ("cells@2",)),
        ("adapter", ("lab/cells@1",)),
        ("adapter", ("tiles@1",)),  # it can be undeleted
        ("dataset", ("cells@1",)),
        ("image", ("cells",)),
    ]
    on_disk = {path.name for folder in ("blobs", "pools") for path in (kept.folder / folder).iterdir()}
    on_disk |= {path.stem for path in (kept.folder / "datasets").glob("*.zip")}
    assert {digest.removeprefix("sha256:") for _, digest in needed} == on_disk


@pytest.mark.parametrize("schema", [1, *RELEASED])
def test_it_reads_the_tables_of_every_released_schema(tmp_path: Path, schema: int) -> None:
    database = Database(tmp_path / "registry.sqlite3")
    create_old(schema, database)
    with database.read() as connection:
        assert [each.users for each in needed_files(connection).values() if each.kind == "adapter"] == [("cells@1",)]
    database.close()


def test_what_several_rows_need_is_one_file(database: Database) -> None:
    database.create()
    with database.write() as connection:
        for number in (1, 2, 3):
            values = f"'a', {number}, 'sha256:{'0' * 64}', 1, '', {'true' if number == 3 else 'false'}, '{{}}'"
            columns = "name, version, digest, size_bytes, created_at, deleted, manifest"
            connection.execute(sa.text(f"INSERT INTO versions ({columns}) VALUES ({values})".replace(":0", r"\:0")))
    with database.read() as connection:
        (needed,) = needed_files(connection).values()
    assert needed.users == ("a@1", "a@2")
    assert needed.title == "adapter a@1 and 1 more (sha256:000000000000...)"


def test_a_file_that_is_read_this_way_cannot_be_written(kept: Kept) -> None:
    path = kept.folder / "registry.sqlite3"
    before = path.read_bytes()
    with reading_file(path) as connection, pytest.raises(sa.exc.OperationalError, match="readonly"):
        connection.exec_driver_sql("DELETE FROM versions")
    assert path.read_bytes() == before


def test_a_damaged_file_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "registry.sqlite3").write_bytes(b"nothing of a database" * 500)
    with pytest.raises(StoreDamaged), reading_file(tmp_path / "registry.sqlite3") as connection:
        needed_files(connection)


def test_a_log_that_was_not_merged_yet_is_read(tmp_path: Path) -> None:
    database = Database(tmp_path / "registry.sqlite3")
    database.create()
    writer = sqlite3.connect(tmp_path / "registry.sqlite3")
    writer.execute("INSERT INTO lensmount_schema VALUES (99)")
    writer.commit()
    with reading_file(tmp_path / "registry.sqlite3") as connection:
        assert 99 in connection.exec_driver_sql("SELECT version FROM lensmount_schema").scalars().all()
    writer.close()
    database.close()
