"""Rows become records without loss, and every change of a job has its event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lensmount_service.errors import NotFound
from lensmount_service.jobs.rows import MAX_ERROR_CHARACTERS, columns_of, job_of, job_row
from lensmount_service.jobs.schema import job_table
from lensmount_service.jobs.table import JobTable

if TYPE_CHECKING:
    from tests.service.jobs.conftest import Clock, RequestOf, Submit

BACKBONE = "sha256:" + "b" * 64  # as in conftest.py


def test_a_request_comes_back_from_its_columns_unchanged(jobs: JobTable, request_of: RequestOf) -> None:
    request = request_of(alias="prod", canary=12.5, priority=7, max_attempts=2, margin=0.5, force=True)
    assert columns_of(request).keys() <= {column.name for column in job_table.columns}
    job, _ = jobs.submit(request)
    with jobs.database.read() as connection:
        assert job_of(job_row(connection, job.id)) == job
    assert job.request == request


def test_an_unknown_id_is_not_found_and_only_its_beginning_is_repeated(jobs: JobTable) -> None:
    with jobs.database.read() as connection, pytest.raises(NotFound) as refused:
        job_row(connection, "x" * 1000)
    assert refused.value.code == "job_not_found"
    assert len(str(refused.value)) < 200


def test_a_long_error_is_cut_in_the_job_and_in_its_event(jobs: JobTable, submit: Submit) -> None:
    job = submit(jobs)
    lease = jobs.claim("w", BACKBONE)
    assert lease is not None
    jobs.finish(lease, "failed", None, ("training_failed", "x" * (MAX_ERROR_CHARACTERS + 1)))
    cut = "x" * MAX_ERROR_CHARACTERS
    assert jobs.get(job.id).error == ("training_failed", cut)
    assert jobs.events(job.id)[1][-1].data["error"] == {"code": "training_failed", "message": cut}


def test_reaping_ends_a_job_that_gets_no_further_attempt_and_leaves_the_others(
    jobs: JobTable, submit: Submit, clock: Clock
) -> None:
    last, another = submit(jobs, max_attempts=1), submit(jobs, max_attempts=2)
    for _ in range(2):
        assert jobs.claim("w", BACKBONE) is not None
    jobs.reap()
    assert {job.state for job in jobs.list()} == {"running"}
    clock.forward(jobs.lease_s + 1)
    jobs.reap()
    ended = jobs.get(last.id)
    assert (ended.state, ended.error and ended.error[0]) == ("failed", "worker_lost")
    assert jobs.get(another.id).state == "running"  # the next worker that asks gets it
