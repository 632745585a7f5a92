"""The heartbeat renews the lease, reports progress, and tells the attempt when it should end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from lensmount_service.errors import LeaseLost, Unavailable
from lensmount_service.jobs import records
from lensmount_service.jobs.worker_verbs import JobQueue
from lensmount_service.worker.heartbeat import Heartbeat, JobCancelled, WorkerStopping

if TYPE_CHECKING:
    from tests.service.conftest import Until


class Table:
    """A job table that answers each beat with the next line of a script, and with the last line for ever."""

    def __init__(self, *script: bool | Exception) -> None:
        self.script = list(script)
        self.beats: list[dict[str, Any] | None] = []

    def beat(self, lease: object, progress: dict[str, Any] | None = None) -> bool:
        self.beats.append(progress)
        line = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(line, Exception):
            raise line
        return line


class Lease:
    id = "1"


@pytest.fixture
def beating() -> Callable[..., AbstractContextManager[tuple[Heartbeat, Table]]]:
    """`with beating(False, True) as (heartbeat, table): ...`"""

    @contextmanager
    def start(
        *script: bool | Exception, stopping: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[Heartbeat, Table]]:
        table = Table(*script)
        with Heartbeat(cast(JobQueue, table), cast(records.Lease, Lease()), 0.02, stopping) as heartbeat:
            yield heartbeat, table

    return start


def raises(kind: type[Exception], heartbeat: Heartbeat) -> Callable[[], bool]:
    def is_raised() -> bool:
        try:
            heartbeat.check()
        except kind:
            return True
        return False

    return is_raised


def test_it_beats_by_itself_and_writes_each_progress_once(
    beating: Callable[..., AbstractContextManager[tuple[Heartbeat, Table]]], until: Until
) -> None:
    with beating(False) as (heartbeat, table):
        heartbeat.progress = {"epoch": 1}
        until(lambda: len(table.beats) >= 4)
        heartbeat.check()
    assert table.beats.count({"epoch": 1}) == 1


def test_a_cancelled_job_a_lost_lease_and_a_stopping_worker_raise_different_errors(
    beating: Callable[..., AbstractContextManager[tuple[Heartbeat, Table]]], until: Until
) -> None:
    with beating(False, True) as (heartbeat, _):
        until(raises(JobCancelled, heartbeat))
    with beating(False, stopping=lambda: True) as (heartbeat, _), pytest.raises(WorkerStopping):
        heartbeat.check()


def test_after_a_lost_lease_it_beats_no_more(
    beating: Callable[..., AbstractContextManager[tuple[Heartbeat, Table]]], until: Until
) -> None:
    with beating(False, LeaseLost("gone")) as (heartbeat, table):
        until(raises(LeaseLost, heartbeat))
        until(lambda: not heartbeat.is_running)
        assert len(table.beats) == 2
        assert raises(LeaseLost, heartbeat)()


def test_a_database_that_is_away_does_not_stop_the_job(
    beating: Callable[..., AbstractContextManager[tuple[Heartbeat, Table]]], until: Until
) -> None:
    with beating(Unavailable("locked"), Unavailable("locked"), False) as (heartbeat, table):
        until(lambda: len(table.beats) >= 4)
        heartbeat.check()


def test_a_progress_that_could_not_be_written_is_written_with_the_next_beat(
    beating: Callable[..., AbstractContextManager[tuple[Heartbeat, Table]]], until: Until
) -> None:
    with beating(Unavailable("locked"), False) as (heartbeat, table):
        heartbeat.progress = {"epoch": 1}
        until(lambda: table.beats.count({"epoch": 1}) >= 2)
