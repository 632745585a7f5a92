"""What the tables refuse by themselves, whatever the code above them does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from lensmount_service.errors import Unavailable
from lensmount_service.jobs.schema import event_table, job_table, publication_table
from lensmount_service.jobs.table import JobTable

if TYPE_CHECKING:
    from tests.service.jobs.conftest import Submit


def insert(jobs: JobTable, table: sa.Table, **values: Any) -> None:
    with jobs.database.write() as connection:
        connection.execute(table.insert().values(values))


def test_a_job_publishes_at_most_once(jobs: JobTable, submit: Submit) -> None:
    values = {"job_id": submit(jobs).id, "lease_token": "t", "name": "malaria"}
    insert(jobs, publication_table, **values, version=1)
    with pytest.raises(Unavailable):
        insert(jobs, publication_table, **values, version=2)


def test_two_events_of_a_job_have_two_numbers(jobs: JobTable, submit: Submit) -> None:
    job = submit(jobs)  # with its first event
    with pytest.raises(Unavailable):
        insert(jobs, event_table, job_id=job.id, number=1, kind="log", at=0.0, data={})


def test_an_idempotency_key_belongs_to_one_job(jobs: JobTable, submit: Submit) -> None:
    first, second = submit(jobs), submit(jobs)

    def set_key(job_id: str) -> None:
        with jobs.database.write() as connection:
            connection.execute(job_table.update().where(job_table.c.id == job_id).values(idempotency_key="k"))

    set_key(first.id)
    with pytest.raises(Unavailable):
        set_key(second.id)


def test_jobs_are_numbered_in_the_order_of_submission(jobs: JobTable, submit: Submit) -> None:
    numbers = [submit(jobs).number for _ in range(3)]
    assert numbers == sorted(set(numbers))
