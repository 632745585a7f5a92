"""The job table as clients and workers share it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from lensmount_service.errors import JobConflict
from lensmount_service.jobs.records import Lease
from lensmount_service.jobs.table import JobTable, jobs_using

if TYPE_CHECKING:
    from tests.service.jobs.conftest import OpenJobs, RequestOf, Submit

BACKBONE = "sha256:" + "b" * 64  # as in conftest.py


def claim(jobs: JobTable, owner: str = "w") -> Lease:
    lease = jobs.claim(owner, BACKBONE)
    assert lease is not None
    return lease


def states(jobs: JobTable, job_id: str) -> list[str]:
    return [event.data["state"] for event in jobs.events(job_id)[1] if event.kind == "state"]


def test_a_job_is_queued_claimed_and_ended_and_another_process_sees_it(
    jobs: JobTable, open_jobs: OpenJobs, submit: Submit, request_of: RequestOf
) -> None:
    job = submit(jobs)
    assert (job.state, job.attempt, job.request) == ("queued", 0, request_of())

    worker = open_jobs()
    lease = claim(worker, "w1")
    assert lease.job.id == job.id
    assert jobs.get(job.id).state == "running"
    assert jobs.get(job.id).attempt == 1
    assert open_jobs().claim("w2", BACKBONE) is None

    worker.finish(lease, "succeeded", {"published": False})
    ended = jobs.get(job.id)
    assert (ended.state, ended.outcome) == ("succeeded", {"published": False})
    assert states(jobs, job.id) == ["queued", "running", "succeeded"]


def test_jobs_are_counted_by_their_state(jobs: JobTable, submit: Submit) -> None:
    assert jobs.counts() == {}
    submitted = [submit(jobs) for _ in range(4)]
    claim(jobs)
    jobs.cancel(submitted[3].id)
    assert jobs.counts() == {"queued": 2, "running": 1, "cancelled": 1}


def test_a_dataset_is_in_use_while_a_job_waits_for_it_or_trains_on_it(jobs: JobTable, submit: Submit) -> None:
    job = submit(jobs)
    with jobs.database.read() as connection:
        assert jobs_using(connection, "cells") == [job.id]
        assert jobs_using(connection, "cells", 1) == [job.id]
        assert jobs_using(connection, "cells", 2) == []
        assert jobs_using(connection, "tiles") == []
    jobs.cancel(job.id)
    with jobs.database.read() as connection:
        assert jobs_using(connection, "cells") == []


def test_cancelling_a_job_while_it_ends_gives_one_end(open_jobs: OpenJobs, submit: Submit) -> None:
    for _ in range(10):
        jobs, worker = open_jobs(), open_jobs()
        job = submit(jobs)
        lease = claim(worker)
        barrier = threading.Barrier(2)

        def end(lease: Lease = lease, worker: JobTable = worker, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            worker.finish(lease, "succeeded")

        thread = threading.Thread(target=end)
        thread.start()
        barrier.wait()
        try:
            jobs.cancel(job.id)
        except JobConflict:
            assert jobs.get(job.id).state == "succeeded"
        thread.join()
        assert jobs.get(job.id).state == "succeeded"
        assert states(jobs, job.id) == ["queued", "running", "succeeded"]
