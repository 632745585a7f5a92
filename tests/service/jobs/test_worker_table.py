"""Which workers are alive, as servers see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lensmount_service.jobs.records import DatasetPin, JobRequest
from lensmount_service.jobs.table import JobTable
from lensmount_service.jobs.worker_table import KEPT_S, SEEN_S, WorkerTable, worker_table
from lensmount_service.store.database import Database

BACKBONE, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


class Clock:
    """The database's clock, moved by hand."""

    now = 1000.0


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    database = Database(tmp_path / "registry.sqlite3")
    monkeypatch.setattr(Clock, "now", 1000.0)
    monkeypatch.setattr(Database, "now", lambda self, connection: Clock.now)
    yield database
    database.close()


def test_a_worker_counts_while_it_reports_and_only_for_its_backbone(database: Database) -> None:
    workers = WorkerTable(database)
    assert workers.count(BACKBONE) == 0
    workers.note("one", BACKBONE)
    workers.note("two", BACKBONE)
    workers.note("one", BACKBONE)
    assert (workers.count(BACKBONE), workers.count(OTHER)) == (2, 0)
    workers.forget("two")
    assert workers.count(BACKBONE) == 1
    Clock.now += SEEN_S + 1
    assert workers.count(BACKBONE) == 0


def test_a_training_worker_counts_by_its_lease(database: Database) -> None:
    workers, jobs = WorkerTable(database), JobTable(database, lease_s=60)
    jobs.submit(JobRequest(DatasetPin("cells", 1, "sha256:0"), "malaria", BACKBONE))
    workers.note("one", BACKBONE)
    jobs.claim("one", BACKBONE)
    assert workers.count(BACKBONE) == 1
    Clock.now += SEEN_S + 1
    assert (workers.count(BACKBONE), workers.count(OTHER)) == (1, 0)
    Clock.now += 60
    assert workers.count(BACKBONE) == 0


def test_the_record_of_a_killed_worker_is_removed_in_the_end(database: Database) -> None:
    workers = WorkerTable(database)
    workers.note("killed", BACKBONE)
    Clock.now += KEPT_S + 1
    workers.note("next", BACKBONE)
    with database.read() as connection:
        assert [row.name for row in connection.execute(worker_table.select())] == ["next"]
