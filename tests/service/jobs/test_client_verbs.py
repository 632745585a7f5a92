"""What clients do with jobs: submit, list, follow, cancel and retry them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from lensmount_service.errors import JobConflict, NotFound, QueueFull, RequestInvalid
from lensmount_service.jobs.records import Lease
from lensmount_service.jobs.table import JobTable

if TYPE_CHECKING:
    from tests.service.jobs.conftest import Clock, OpenJobs, RequestOf, Submit

BACKBONE = "sha256:" + "b" * 64  # as in conftest.py


def claim(jobs: JobTable, owner: str = "w") -> Lease:
    lease = jobs.claim(owner, BACKBONE)
    assert lease is not None
    return lease


def test_a_queued_job_is_cancelled_at_once_and_a_running_one_by_its_worker(jobs: JobTable, submit: Submit) -> None:
    queued, running = submit(jobs), submit(jobs, priority=1)
    lease = claim(jobs)
    assert lease.id == running.id

    assert jobs.cancel(queued.id).state == "cancelled"
    assert jobs.cancel(queued.id).state == "cancelled"
    asked = jobs.cancel(running.id)
    assert (asked.state, asked.cancel_requested) == ("running", True)
    assert jobs.cancel(running.id) == asked
    assert jobs.beat(lease) is True
    jobs.finish(lease, "cancelled")
    assert jobs.get(running.id).state == "cancelled"


def test_a_job_that_ended_cannot_be_cancelled(jobs: JobTable, submit: Submit) -> None:
    job = submit(jobs)
    jobs.finish(claim(jobs), "succeeded")
    with pytest.raises(JobConflict) as refused:
        jobs.cancel(job.id)
    assert refused.value.code == "job_finished"


def test_a_failed_job_can_be_retried_and_a_succeeded_one_cannot(jobs: JobTable, submit: Submit) -> None:
    job = submit(jobs)
    for state, code in (("queued", "job_not_finished"), ("running", "job_not_finished"), ("succeeded", "job_finished")):
        if state == "running":
            lease = claim(jobs)
        elif state == "succeeded":
            jobs.finish(lease, "failed", None, ("training_failed", "the loss is nan"))
            again = jobs.retry(job.id)
            assert (again.state, again.attempt, again.error, again.finished_at) == ("queued", 0, None, None)
            jobs.finish(claim(jobs), "succeeded")
        with pytest.raises(JobConflict) as refused:
            jobs.retry(job.id)
        assert refused.value.code == code


def test_the_same_key_and_body_is_the_same_job_even_a_hundred_times_at_once(
    open_jobs: OpenJobs, request_of: RequestOf
) -> None:
    tables = [open_jobs() for _ in range(5)]
    made: list[tuple[str, bool]] = []

    def ask(jobs: JobTable) -> None:
        for _ in range(20):
            job, created = jobs.submit(request_of(), key="k", request_digest="sha256:1")
            made.append((job.id, created))

    threads = [threading.Thread(target=ask, args=(jobs,)) for jobs in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 100
    assert len({job_id for job_id, _ in made}) == 1
    assert sum(created for _, created in made) == 1


def test_the_same_key_with_another_body_is_refused(jobs: JobTable, request_of: RequestOf) -> None:
    jobs.submit(request_of(), key="k", request_digest="sha256:1")
    with pytest.raises(RequestInvalid) as refused:
        jobs.submit(request_of(), key="k", request_digest="sha256:2")
    assert refused.value.code == "idempotency_key_reuse"


def test_a_job_beyond_the_limit_is_refused(open_jobs: OpenJobs, submit: Submit) -> None:
    jobs = open_jobs(max_queued=2)
    submit(jobs)
    submit(jobs)
    with pytest.raises(QueueFull) as refused:
        submit(jobs)
    assert refused.value.code == "jobs_full"
    claim(jobs)
    submit(jobs)


def test_a_check_that_fails_leaves_no_job(jobs: JobTable, request_of: RequestOf) -> None:
    def gone(_: object) -> None:
        raise NotFound("gone", code="dataset_not_found")

    with pytest.raises(NotFound):
        jobs.submit(request_of(), check=gone)
    assert jobs.list() == []


def test_the_list_is_newest_first_in_pages(jobs: JobTable, submit: Submit) -> None:
    ids = [submit(jobs).id for _ in range(5)][::-1]
    jobs.cancel(ids[0])
    assert [job.id for job in jobs.list(limit=2)] == ids[:2]
    assert [job.id for job in jobs.list(limit=2, before=ids[1])] == ids[2:4]
    assert [job.id for job in jobs.list(state="cancelled")] == ids[:1]
    with pytest.raises(NotFound) as refused:
        jobs.list(before="0" * 32)
    assert refused.value.code == "job_not_found"


def test_events_count_from_one_and_can_be_read_after_the_last_one_seen(jobs: JobTable, submit: Submit) -> None:
    job = submit(jobs)
    lease = claim(jobs)
    jobs.add_event(lease, "epoch", {"epoch": 1, "loss": 0.5})
    jobs.add_event(lease, "log", {"level": "info", "message": "hello"})

    assert [(e.number, e.kind) for e in jobs.events(job.id)[1]] == [
        (1, "state"),
        (2, "state"),
        (3, "epoch"),
        (4, "log"),
    ]
    assert [e.number for e in jobs.events(job.id, after=2)[1]] == [3, 4]


def test_the_history_has_each_epoch_once_if_a_second_attempt_repeated_it(
    jobs: JobTable, clock: Clock, submit: Submit
) -> None:
    submit(jobs)
    lease = claim(jobs)
    for epoch in (1, 2, 3):
        jobs.add_event(lease, "epoch", {"epoch": epoch, "loss": 0.5})
    clock.forward(31)
    lease = claim(jobs)
    jobs.add_event(lease, "epoch", {"epoch": 2, "loss": 0.4})
    assert jobs.histories([lease.id])[lease.id] == ({"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4})


def test_an_unknown_id_is_not_found(jobs: JobTable) -> None:
    asks: tuple[Callable[[str], object], ...] = (jobs.get, jobs.events, jobs.cancel, jobs.retry)
    for ask in asks:
        with pytest.raises(NotFound) as refused:
            ask("nothing")
        assert refused.value.code == "job_not_found"
