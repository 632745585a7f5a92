from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from lensmount_service.errors import JobConflict, LeaseLost, NotFound, QueueFull, RequestInvalid
from lensmount_service.jobs.records import DatasetPin, JobRequest
from lensmount_service.jobs.table import JobTable, jobs_using

BACKBONE = "sha256:" + "b" * 64
REQUEST = JobRequest(DatasetPin("cells", 1, "sha256:" + "d" * 64), "malaria", BACKBONE, {"epochs": 2})


class Clock:
    time = 1_000_000.0

    def __call__(self, _):
        return self.time

    def forward(self, seconds):
        self.time += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def open_jobs(reopen, clock, monkeypatch):
    """`open_jobs()` is the same job table as another process has it, under the one fake clock."""

    def open_again(**options):
        database = reopen()
        monkeypatch.setattr(database, "now", clock)
        return JobTable(database, lease_s=30, **options)

    return open_again


@pytest.fixture
def jobs(open_jobs):
    return open_jobs()


def submit(jobs, **changes):
    return jobs.submit(replace(REQUEST, **changes))[0]


def states(jobs, job_id):
    return [event.data["state"] for event in jobs.events(job_id)[1] if event.kind == "state"]


def test_a_job_waits_is_claimed_and_ends_and_another_process_sees_it(jobs, open_jobs):
    job = submit(jobs)
    assert (job.state, job.attempt, job.request) == ("queued", 0, REQUEST)

    worker = open_jobs()
    lease = worker.claim("w1", BACKBONE)
    assert lease.job.id == job.id
    assert jobs.get(job.id).state == "running"
    assert jobs.get(job.id).attempt == 1
    assert open_jobs().claim("w2", BACKBONE) is None

    worker.finish(lease, "succeeded", {"published": False})
    ended = jobs.get(job.id)
    assert (ended.state, ended.outcome) == ("succeeded", {"published": False})
    assert states(jobs, job.id) == ["queued", "running", "succeeded"]


def test_jobs_are_claimed_by_priority_and_then_in_order(jobs):
    first, second, urgent = submit(jobs), submit(jobs), submit(jobs, priority=5)

    assert [jobs.claim("w", BACKBONE).id for _ in range(3)] == [urgent.id, first.id, second.id]


def test_a_worker_with_another_backbone_claims_nothing(jobs):
    submit(jobs)
    assert jobs.claim("w", "sha256:" + "c" * 64) is None


def test_a_silent_workers_job_is_claimed_again_and_the_first_worker_is_refused(jobs, clock):
    job = submit(jobs)
    zombie = jobs.claim("w1", BACKBONE)
    clock.forward(29)
    assert jobs.claim("w2", BACKBONE) is None
    clock.forward(2)
    lease = jobs.claim("w2", BACKBONE)
    assert (lease.id, lease.job.attempt) == (job.id, 2)

    for write in (
        lambda: jobs.beat(zombie),
        lambda: jobs.tell(zombie, "log", {}),
        lambda: jobs.store_outcome(zombie, {}),
        lambda: jobs.finish(zombie, "failed"),
        lambda: jobs.try_again(zombie, ("x", "y"), 0),
        lambda: jobs.give_back(zombie),
    ):
        with pytest.raises(LeaseLost):
            write()
    jobs.finish(lease, "succeeded")
    assert jobs.get(job.id).state == "succeeded"


def test_a_heartbeat_keeps_the_job_and_shows_its_progress(jobs, clock):
    submit(jobs)
    lease = jobs.claim("w1", BACKBONE)
    for _ in range(5):
        clock.forward(29)
        assert jobs.beat(lease, {"epoch": 1}) is False
    assert jobs.claim("w2", BACKBONE) is None
    assert jobs.get(lease.id).progress == {"epoch": 1}


def test_a_worker_that_was_silent_too_long_goes_on_where_nobody_has_claimed_its_job(jobs, clock):
    submit(jobs)
    lease = jobs.claim("w1", BACKBONE)
    clock.forward(100)
    jobs.beat(lease)
    assert jobs.claim("w2", BACKBONE) is None


def test_a_job_whose_worker_dies_three_times_has_failed(jobs, clock):
    job = submit(jobs, max_attempts=3)
    for attempt in (1, 2, 3):
        assert jobs.claim("w", BACKBONE).job.attempt == attempt
        clock.forward(31)
    assert jobs.claim("w", BACKBONE) is None

    failed = jobs.get(job.id)
    assert (failed.state, failed.attempt, failed.error[0]) == ("failed", 3, "worker_lost")
    assert jobs.events(job.id)[1][-1].data["error"]["code"] == "worker_lost"


def test_an_attempt_that_was_given_back_does_not_count_and_is_claimed_at_once(jobs):
    job = submit(jobs, max_attempts=1)
    jobs.give_back(jobs.claim("w1", BACKBONE))
    lease = jobs.claim("w2", BACKBONE)
    assert (lease.id, lease.job.attempt) == (job.id, 1)


def test_a_failed_attempt_is_tried_again_after_its_delay_and_the_last_one_fails_the_job(jobs, clock):
    job = submit(jobs, max_attempts=2)
    jobs.try_again(jobs.claim("w", BACKBONE), ("server_away", "no answer"), 10)
    assert jobs.claim("w", BACKBONE) is None
    clock.forward(11)
    jobs.try_again(jobs.claim("w", BACKBONE), ("server_away", "no answer"), 10)
    assert (jobs.get(job.id).state, jobs.get(job.id).error) == ("failed", ("server_away", "no answer"))


def test_a_queued_job_is_cancelled_at_once_and_a_running_one_by_its_worker(jobs):
    queued, running = submit(jobs), submit(jobs, priority=1)
    lease = jobs.claim("w", BACKBONE)
    assert lease.id == running.id

    assert jobs.cancel(queued.id).state == "cancelled"
    assert jobs.cancel(queued.id).state == "cancelled"
    asked = jobs.cancel(running.id)
    assert (asked.state, asked.cancel_requested) == ("running", True)
    assert jobs.cancel(running.id) == asked
    assert jobs.beat(lease) is True
    jobs.finish(lease, "cancelled")
    assert jobs.get(running.id).state == "cancelled"


def test_a_job_that_ended_cannot_be_cancelled(jobs):
    job = submit(jobs)
    jobs.finish(jobs.claim("w", BACKBONE), "succeeded")
    with pytest.raises(JobConflict) as refused:
        jobs.cancel(job.id)
    assert refused.value.code == "job_finished"


@pytest.mark.parametrize("end", ["give_back", "try_again", "die"])
def test_a_job_to_be_cancelled_is_never_claimed_again(jobs, clock, end):
    job = submit(jobs)
    lease = jobs.claim("w", BACKBONE)
    jobs.cancel(job.id)
    if end == "give_back":
        jobs.give_back(lease)
    elif end == "try_again":
        jobs.try_again(lease, ("x", "y"), 0)
    else:
        clock.forward(31)
    assert jobs.claim("w", BACKBONE) is None
    assert jobs.get(job.id).state == "cancelled"


def test_a_failed_job_can_be_tried_again_by_hand_and_a_succeeded_one_not(jobs):
    job = submit(jobs)
    for state, code in (("queued", "job_not_finished"), ("running", "job_not_finished"), ("succeeded", "job_finished")):
        if state == "running":
            lease = jobs.claim("w", BACKBONE)
        elif state == "succeeded":
            jobs.finish(lease, "failed", None, ("training_failed", "the loss is nan"))
            again = jobs.retry(job.id)
            assert (again.state, again.attempt, again.error, again.finished_at) == ("queued", 0, None, None)
            jobs.finish(jobs.claim("w", BACKBONE), "succeeded")
        with pytest.raises(JobConflict) as refused:
            jobs.retry(job.id)
        assert refused.value.code == code


def test_the_same_key_and_body_is_the_same_job_even_a_hundred_times_at_once(open_jobs):
    tables = [open_jobs() for _ in range(5)]
    made: list[tuple[str, bool]] = []

    def ask(jobs):
        for _ in range(20):
            job, created = jobs.submit(REQUEST, key="k", request_digest="sha256:1")
            made.append((job.id, created))

    threads = [threading.Thread(target=ask, args=(jobs,)) for jobs in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 100
    assert len({job_id for job_id, _ in made}) == 1
    assert sum(created for _, created in made) == 1


def test_the_same_key_with_another_body_is_refused(jobs):
    jobs.submit(REQUEST, key="k", request_digest="sha256:1")
    with pytest.raises(RequestInvalid) as refused:
        jobs.submit(REQUEST, key="k", request_digest="sha256:2")
    assert refused.value.code == "idempotency_key_reuse"


def test_one_job_too_many_is_refused(open_jobs):
    jobs = open_jobs(max_queued=2)
    submit(jobs)
    submit(jobs)
    with pytest.raises(QueueFull) as refused:
        submit(jobs)
    assert refused.value.code == "jobs_full"
    jobs.claim("w", BACKBONE)
    submit(jobs)


def test_a_check_that_fails_leaves_no_job(jobs):
    def gone(_):
        raise NotFound("gone", code="dataset_not_found")

    with pytest.raises(NotFound):
        jobs.submit(REQUEST, check=gone)
    assert jobs.list() == []


def test_a_hundred_jobs_and_four_workers_run_each_job_once(open_jobs):
    jobs = open_jobs()
    wanted = {submit(jobs).id for _ in range(100)}
    ran: list[str] = []

    def work():
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


def test_the_list_is_newest_first_in_pages(jobs):
    ids = [submit(jobs).id for _ in range(5)][::-1]
    jobs.cancel(ids[0])
    assert [job.id for job in jobs.list(limit=2)] == ids[:2]
    assert [job.id for job in jobs.list(limit=2, before=ids[1])] == ids[2:4]
    assert [job.id for job in jobs.list(state="cancelled")] == ids[:1]
    with pytest.raises(NotFound) as refused:
        jobs.list(before="0" * 32)
    assert refused.value.code == "job_not_found"


def test_events_count_from_one_and_are_read_from_where_a_client_stopped(jobs):
    job = submit(jobs)
    lease = jobs.claim("w", BACKBONE)
    jobs.tell(lease, "epoch", {"epoch": 1, "loss": 0.5})
    jobs.tell(lease, "log", {"level": "info", "message": "hello"})

    assert [(e.number, e.kind) for e in jobs.events(job.id)[1]] == [
        (1, "state"),
        (2, "state"),
        (3, "epoch"),
        (4, "log"),
    ]
    assert [e.number for e in jobs.events(job.id, after=2)[1]] == [3, 4]


def test_the_history_holds_each_epoch_once_where_a_second_attempt_went_over_it_again(jobs, clock):
    submit(jobs)
    lease = jobs.claim("w", BACKBONE)
    for epoch in (1, 2, 3):
        jobs.tell(lease, "epoch", {"epoch": epoch, "loss": 0.5})
    clock.forward(31)
    lease = jobs.claim("w", BACKBONE)
    jobs.tell(lease, "epoch", {"epoch": 2, "loss": 0.4})
    assert jobs.histories([lease.id])[lease.id] == ({"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4})


def test_a_dataset_is_in_use_while_a_job_waits_for_it_or_trains_on_it(jobs):
    job = submit(jobs)
    with jobs.database.read() as connection:
        assert jobs_using(connection, "cells") == [job.id]
        assert jobs_using(connection, "cells", 1) == [job.id]
        assert jobs_using(connection, "cells", 2) == []
        assert jobs_using(connection, "tiles") == []
    jobs.cancel(job.id)
    with jobs.database.read() as connection:
        assert jobs_using(connection, "cells") == []


def test_a_publication_ends_the_job_in_the_same_transaction_and_happens_once(jobs, clock):
    job = submit(jobs)
    lease = jobs.claim("w", BACKBONE)
    jobs.store_outcome(lease, {"published": False, "seconds": 3})
    with jobs.database.write() as connection:
        assert jobs.publication(connection, job.id, lease.token) is None
        jobs.succeed(connection, job.id, lease.token, "malaria", 4, "sha256:1")
    ended = jobs.get(job.id)
    adapter = {"name": "malaria", "version": 4, "digest": "sha256:1"}
    assert (ended.state, ended.outcome) == ("succeeded", {"published": True, "seconds": 3, "adapter": adapter})

    with jobs.database.write() as connection:
        assert (
            jobs.publication(connection, job.id, lease.token).version == 4
        )  # the answer was lost, the worker asks anew
        with pytest.raises(LeaseLost):
            jobs.publication(connection, job.id, "0" * 32)


def test_a_publication_of_a_job_to_be_cancelled_is_refused(jobs):
    job = submit(jobs)
    lease = jobs.claim("w", BACKBONE)
    jobs.cancel(job.id)
    with jobs.database.write() as connection, pytest.raises(JobConflict) as refused:
        jobs.publication(connection, job.id, lease.token)
    assert refused.value.code == "job_cancelled"


def test_cancelling_while_it_ends_gives_one_end(open_jobs):
    for _ in range(10):
        jobs, worker = open_jobs(), open_jobs()
        job = submit(jobs)
        lease = worker.claim("w", BACKBONE)
        barrier = threading.Barrier(2)

        def end(lease=lease, worker=worker, barrier=barrier):
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


def test_an_id_that_is_no_job_is_not_found(jobs):
    for ask in (jobs.get, jobs.events, jobs.cancel, jobs.retry):
        with pytest.raises(NotFound) as refused:
            ask("nothing")
        assert refused.value.code == "job_not_found"
