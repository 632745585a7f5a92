"""A job table under a fake clock, and a request to submit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lensmount_service.jobs.records import DatasetPin, Job, JobRequest
from lensmount_service.jobs.table import JobTable
from lensmount_service.store.database import Database

BACKBONE = "sha256:" + "b" * 64
REQUEST = JobRequest(DatasetPin("cells", 1, "sha256:" + "d" * 64), "malaria", BACKBONE, {"epochs": 2})

# The types of the fixtures that are functions

OpenJobs = Callable[..., JobTable]
RequestOf = Callable[..., JobRequest]
Submit = Callable[..., Job]


class Clock:
    """The clock of the database, and the monotonic clock of the process. `jump` sets only the first one."""

    time = 1_000_000.0
    jumped = 0.0

    def __call__(self, _: object) -> float:
        return self.time + self.jumped

    def monotonic(self) -> float:
        return self.time

    def jump(self, seconds: float) -> None:
        self.jumped += seconds

    def forward(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_jobs(reopen: Callable[[], Database], clock: Clock, monkeypatch: pytest.MonkeyPatch) -> OpenJobs:
    """`open_jobs()` opens the same job table as another process would, with the same fake clock."""

    def open_again(**options: Any) -> JobTable:
        database = reopen()
        monkeypatch.setattr(database, "now", clock)
        return JobTable(database, lease_s=30, clock=clock.monotonic, **options)

    return open_again


@pytest.fixture
def jobs(open_jobs: OpenJobs) -> JobTable:
    return open_jobs()


@pytest.fixture
def request_of() -> RequestOf:
    """`request_of(priority=5)` is a job request for `BACKBONE`."""
    return lambda **changes: replace(REQUEST, **changes)


@pytest.fixture
def submit(request_of: RequestOf) -> Submit:
    """`submit(jobs, priority=5)` gives the new job."""
    return lambda jobs, **changes: jobs.submit(request_of(**changes))[0]
