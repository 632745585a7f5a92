"""What a damaged SQLite file still has is compared with what was in it, as sqlite3 read it before the damage."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from lensmount_service.repair.salvage import salvage
from lensmount_service.store.database import Database

ROWS = 3000


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with thousands of rows on hundreds of pages, in two tables."""
    path = tmp_path_factory.mktemp("sound") / "registry.sqlite3"
    database = Database(path)
    database.create()
    database.close()
    with sqlite3.connect(path) as connection:
        connection.executemany(
            "INSERT INTO versions (name, version, digest, size_bytes, created_at, deleted, manifest) "
            "VALUES (?, 1, ?, ?, '2026', 0, ?)",
            [(f"a{n}", f"sha256:{n:064x}", n, f"{n}" * 50) for n in range(ROWS)],
        )
        connection.executemany(
            "INSERT INTO job_events (job_id, number, kind, at, data) VALUES ('j', ?, 'epoch', 1.5, ?)",
            [(n, f'{{"loss": {n}}}') for n in range(ROWS)],
        )
        connection.commit()
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    return path


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    database = Database(tmp_path / "fresh.sqlite3")
    database.create()
    database.close()
    return tmp_path / "fresh.sqlite3"


def rows_of(path: Path, table: str) -> set[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return set(connection.execute(f"SELECT * FROM {table}").fetchall())
    finally:
        connection.close()


def damaged(sound: Path, folder: Path, pages: list[int]) -> Path:
    path = folder / "damaged.sqlite3"
    path.write_bytes(sound.read_bytes())
    with path.open("r+b") as file:
        for page in pages:
            file.seek(4096 * page)
            file.write(os.urandom(4096))
    return path


def test_of_a_sound_file_every_row_is_copied(sound: Path, fresh: Path) -> None:
    salvaged = salvage(sound, fresh)
    assert salvaged.lost == {}
    assert salvaged.copied["versions"] == salvaged.copied["job_events"] == ROWS
    for table in ("versions", "job_events"):
        assert rows_of(fresh, table) == rows_of(sound, table)


@pytest.mark.parametrize("seed", range(8))
def test_only_rows_of_damaged_pages_are_lost_and_none_is_changed(
    sound: Path, fresh: Path, tmp_path: Path, seed: int
) -> None:
    first, count = fresh.stat().st_size // 4096, sound.stat().st_size // 4096  # the first ones have the list of tables
    pages = np.random.default_rng(seed).choice(np.arange(first, count), 5, replace=False).tolist()
    salvaged = salvage(damaged(sound, tmp_path, pages), fresh)
    for table in ("versions", "job_events"):
        assert rows_of(fresh, table) <= rows_of(sound, table)
        assert len(rows_of(fresh, table)) == salvaged.copied[table] >= ROWS - 5 * 120
    connection = sqlite3.connect(fresh)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_the_middle_page_of_each_range_of_rows_that_cannot_be_read_is_found_by_halving(
    sound: Path, fresh: Path, tmp_path: Path
) -> None:
    """The pages of one table are known from SQLite's own table of pages."""
    connection = sqlite3.connect(sound)
    try:
        pages = [
            page
            for (page,) in connection.execute(
                "SELECT pageno FROM dbstat WHERE name = 'versions' AND pagetype = 'leaf' ORDER BY pageno"
            )
        ]
    except sqlite3.OperationalError:
        pytest.skip("this SQLite has no table of pages")
    finally:
        connection.close()
    salvaged = salvage(damaged(sound, tmp_path, [pages[len(pages) // 2] - 1]), fresh)
    rows = ROWS / len(pages)
    assert 0 < ROWS - salvaged.copied["versions"] <= 2 * rows
    assert salvaged.lost["versions"] == ROWS - salvaged.copied["versions"]
    assert "job_events" not in salvaged.lost


def test_a_lost_first_page_leaves_nothing_to_read_and_no_error(sound: Path, fresh: Path, tmp_path: Path) -> None:
    assert sum(salvage(damaged(sound, tmp_path, [0]), fresh).copied.values()) == 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE versions SET digest = 'sha256:zz' WHERE rowid = 7",
        "UPDATE versions SET size_bytes = 'many' WHERE rowid = 7",
        "UPDATE versions SET deleted = 7 WHERE rowid = 7",
        "UPDATE versions SET created_at = x'ff00' WHERE rowid = 7",
        "UPDATE versions SET created_at = CAST(x'ff00' AS TEXT) WHERE rowid = 7",
    ],
)
def test_a_row_with_values_of_another_type_is_not_copied(sound: Path, fresh: Path, tmp_path: Path, change: str) -> None:
    path = damaged(sound, tmp_path, [])
    with sqlite3.connect(path) as connection:
        connection.execute(change)
    connection.close()
    salvaged = salvage(path, fresh)
    assert (salvaged.copied["versions"], salvaged.lost) == (ROWS - 1, {"versions": 1})


def test_a_damaged_manifest_is_left_out_of_its_row_because_the_file_has_it_too(
    sound: Path, fresh: Path, tmp_path: Path
) -> None:
    path = damaged(sound, tmp_path, [])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE versions SET manifest = CAST(x'ff00' AS TEXT) WHERE rowid = 7")
    connection.close()
    assert salvage(path, fresh).lost == {}
    with sqlite3.connect(fresh) as connection:
        assert connection.execute("SELECT manifest FROM versions WHERE rowid = 7").fetchone() == ("",)
    connection.close()


def test_an_older_schema_is_copied_into_the_newest(tmp_path: Path, fresh: Path) -> None:
    from tests.service.store.test_migrate import create_old

    old = Database(tmp_path / "old.sqlite3")
    create_old(2, old)
    old.close()
    salvaged = salvage(tmp_path / "old.sqlite3", fresh)
    assert (salvaged.copied["versions"], salvaged.copied["jobs"]) == (2, 1)
    assert salvaged.lost == {}


def test_a_damaged_rollout_costs_its_alias_nothing_but_the_rollout(sound: Path, fresh: Path, tmp_path: Path) -> None:
    with sqlite3.connect(damaged(sound, tmp_path, [])) as connection:
        connection.execute(
            "INSERT INTO aliases (name, alias, version, rollout) VALUES ('a1', 'prod', 1, CAST(x'7bff' AS TEXT))"
        )
    connection.close()
    assert salvage(tmp_path / "damaged.sqlite3", fresh).lost == {}
    with sqlite3.connect(fresh) as connection:
        assert connection.execute("SELECT name, version, rollout FROM aliases").fetchall() == [("a1", 1, "")]
    connection.close()
