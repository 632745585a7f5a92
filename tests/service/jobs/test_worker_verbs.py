"""What workers do with jobs: claim, renew, report, end and publish them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from lensmount_service.errors import JobConflict, LeaseLost
from lensmount_service.jobs.records import Lease, Published
from lensmount_service.jobs.table import JobTable

if TYPE_CHECKING:
    from tests.service.jobs.conftest import Clock, OpenJobs, Submit

BACKBONE = "sha256:" + "b" * 64  # as in conftest.py


def claim(jobs: JobTable, owner: str = "w") -> Lease:
    lease = jobs.claim(owner, BACKBONE)
    assert lease is not None
    return lease


def test_jobs_are_claimed_by_priority_and_then_in_order(jobs: JobTable, submit: Submit) -> None:
    first, second, urgent = submit(jobs), submit(jobs), submit(jobs, priority=5)

    assert [claim(jobs).id for _ in range(3)] == [urgent.id, first.id, second.id]


def test_a_worker_with_another_backbone_claims_nothing(jobs: JobTable, submit: Submit) -> None:
    submit(jobs)
    assert jobs.claim("w", "sha256:" + "c" * 64) is None


def test_a_silent_workers_job_is_claimed_again_and_the_first_worker_is_refused(
    jobs: JobTable, clock: Clock, submit: Submit
) -> None:
    job = submit(jobs)
    zombie = claim(jobs, "w1")
    clock.forward(29)
    assert jobs.claim("w2", BACKBONE) is None
    clock.forward(2)
    lease = claim(jobs, "w2")
    assert (lease.id, lease.job.attempt) == (job.id, 2)

    for write in (
        lambda: jobs.beat(zombie),
        lambda: jobs.add_event(zombie, "log", {}),
        lambda: jobs.store_outcome(zombie, {}),
        lambda: jobs.finish(zombie, "failed"),
        lambda: jobs.try_again(zombie, ("x", "y"), 0),
        lambda: jobs.give_back(zombie),
    ):
        with pytest.raises(LeaseLost):
            write()
    jobs.finish(lease, "succeeded")
    assert jobs.get(job.id).state == "succeeded"


def test_a_heartbeat_keeps_the_job_and_shows_its_progress(jobs: JobTable, clock: Clock, submit: Submit) -> None:
    submit(jobs)
    lease = claim(jobs, "w1")
    for _ in range(5):
        clock.forward(29)
        assert jobs.beat(lease, {"epoch": 1}) is False
    assert jobs.claim("w2", BACKBONE) is None
    assert jobs.get(lease.id).progress == {"epoch": 1}


def test_a_worker_that_was_silent_too_long_continues_if_nobody_has_claimed_its_job(
    jobs: JobTable, clock: Clock, submit: Submit
) -> None:
    submit(jobs)
    lease = claim(jobs, "w1")
    clock.forward(100)
    jobs.beat(lease)
    assert jobs.claim("w2", BACKBONE) is None


def test_job_08_a_job_whose_worker_dies_three_times_has_failed(jobs: JobTable, clock: Clock, submit: Submit) -> None:
    job = submit(jobs, max_attempts=3)
    for attempt in (1, 2, 3):
        assert claim(jobs).job.attempt == attempt
        clock.forward(31)
    assert jobs.claim("w", BACKBONE) is None

    failed = jobs.get(job.id)
    assert failed.error is not None
    assert (failed.state, failed.attempt, failed.error[0]) == ("failed", 3, "worker_lost")
    assert jobs.events(job.id)[1][-1].data["error"]["code"] == "worker_lost"


def test_an_attempt_that_was_given_back_does_not_count_and_is_claimed_at_once(jobs: JobTable, submit: Submit) -> None:
    job = submit(jobs, max_attempts=1)
    jobs.give_back(claim(jobs, "w1"))
    lease = claim(jobs, "w2")
    assert (lease.id, lease.job.attempt) == (job.id, 1)


def test_a_failed_attempt_is_tried_again_after_its_delay_and_the_last_one_fails_the_job(
    jobs: JobTable, clock: Clock, submit: Submit
) -> None:
    job = submit(jobs, max_attempts=2)
    jobs.try_again(claim(jobs), ("server_away", "no answer"), 10)
    assert jobs.claim("w", BACKBONE) is None
    clock.forward(11)
    jobs.try_again(claim(jobs), ("server_away", "no answer"), 10)
    assert (jobs.get(job.id).state, jobs.get(job.id).error) == ("failed", ("server_away", "no answer"))


@pytest.mark.parametrize("end", ["give_back", "try_again", "die"])
def test_a_job_to_be_cancelled_is_never_claimed_again(jobs: JobTable, clock: Clock, end: str, submit: Submit) -> None:
    job = submit(jobs)
    lease = claim(jobs)
    jobs.cancel(job.id)
    if end == "give_back":
        jobs.give_back(lease)
    elif end == "try_again":
        jobs.try_again(lease, ("x", "y"), 0)
    else:
        clock.forward(31)
    assert jobs.claim("w", BACKBONE) is None
    assert jobs.get(job.id).state == "cancelled"


def test_a_hundred_jobs_and_four_workers_run_each_job_once(open_jobs: OpenJobs, submit: Submit) -> None:
    jobs = open_jobs()
    wanted = {submit(jobs).id for _ in range(100)}
    ran: list[str] = []

    def work() -> None:
        own = open_jobs()
        while (lease := own.claim("w", BACKBONE)) is not None:
            ran.append(lease.id)
            own.finish(lease, "succeeded")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ran) == sorted(wanted)


def test_a_publication_ends_the_job_in_the_same_transaction_and_happens_once(
    jobs: JobTable, clock: Clock, submit: Submit
) -> None:
    job = submit(jobs)
    lease = claim(jobs)
    jobs.store_outcome(lease, {"published": False, "seconds": 3})
    with jobs.database.write() as connection:
        assert jobs.publication(connection, job.id, lease.token) is None
        jobs.succeed(connection, job.id, lease.token, Published("malaria", 4), "sha256:1")
    ended = jobs.get(job.id)
    adapter = {"name": "malaria", "version": 4, "digest": "sha256:1"}
    assert (ended.state, ended.outcome) == ("succeeded", {"published": True, "seconds": 3, "adapter": adapter})

    with jobs.database.write() as connection:
        again = jobs.publication(connection, job.id, lease.token)  # the worker got no response and asks again
        assert again is not None
        assert again.version == 4
        with pytest.raises(LeaseLost):
            jobs.publication(connection, job.id, "0" * 32)


def test_a_publication_of_a_job_to_be_cancelled_is_refused(jobs: JobTable, submit: Submit) -> None:
    job = submit(jobs)
    lease = claim(jobs)
    jobs.cancel(job.id)
    with jobs.database.write() as connection, pytest.raises(JobConflict) as refused:
        jobs.publication(connection, job.id, lease.token)
    assert refused.value.code == "job_cancelled"
