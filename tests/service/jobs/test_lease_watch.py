from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from lensmount_service.jobs.lease_watch import LeaseWatch

if TYPE_CHECKING:
    from tests.service.jobs.conftest import Clock, OpenJobs, Submit

BACKBONE = "sha256:" + "b" * 64
HOUR, YEAR = 3600.0, 365 * 86_400.0


def test_a_lease_that_is_not_renewed_expires_and_a_renewed_one_does_not(clock: Clock) -> None:
    watch = LeaseWatch(30, clock.monotonic)
    assert watch.expired([("a", "t", 10.0), ("b", "t", 10.0)]) == []
    clock.forward(29)
    assert watch.expired([("a", "t", 10.0), ("b", "t", 39.0)]) == []
    clock.forward(2)
    assert watch.expired([("a", "t", 10.0), ("b", "t", 39.0)]) == ["a"]
    assert watch.expired([("a", "other", 10.0), ("b", "t", 39.0)]) == []  # another worker has it now
    clock.forward(60)
    assert watch.expired([]) == []
    assert watch.expired([("b", "t", 39.0)]) == []  # it was away in between


@pytest.mark.parametrize("seconds", [HOUR, -HOUR, YEAR, -YEAR])
def test_a_jump_of_the_clock_takes_no_job_from_a_live_worker(
    open_jobs: OpenJobs, clock: Clock, submit: Submit, seconds: float
) -> None:
    mine, other, late = open_jobs(), open_jobs(), open_jobs()
    submit(mine)
    lease = mine.claim("live", BACKBONE)
    assert lease is not None
    assert other.claim("other", BACKBONE) is None
    for beat in range(10):
        if beat == 3:
            clock.jump(seconds)
            assert late.claim("started after the jump", BACKBONE) is None
        clock.forward(20)
        assert mine.beat(lease) is False
        assert other.claim("other", BACKBONE) is None
        assert late.claim("late", BACKBONE) is None


@pytest.mark.parametrize("seconds", [0.0, HOUR, -HOUR, YEAR, -YEAR])
def test_a_jump_of_the_clock_keeps_no_dead_worker_s_job_for_more_than_two_lease_times(
    open_jobs: OpenJobs, clock: Clock, submit: Submit, seconds: float
) -> None:
    submit(open_jobs())
    dead = open_jobs().claim("dead", BACKBONE)
    assert dead is not None
    clock.forward(29)
    other = open_jobs()
    assert other.claim("other", BACKBONE) is None  # it looks for the first time
    clock.jump(seconds)
    waited = next(29 + second for second in itertools.count(1) if clock.forward(1) or other.claim("other", BACKBONE))
    assert waited <= 60


def test_a_job_that_waits_for_its_next_attempt_is_not_lost_when_the_clock_is_set_back(
    open_jobs: OpenJobs, clock: Clock, submit: Submit
) -> None:
    jobs = open_jobs()
    submit(jobs)
    lease = jobs.claim("w", BACKBONE)
    assert lease is not None
    jobs.try_again(lease, ("failed", "no"), 60)
    assert jobs.claim("w", BACKBONE) is None
    clock.jump(-YEAR)
    assert jobs.claim("w", BACKBONE) is not None
