"""The records of the job table: their times as text, and which states end a job."""

from __future__ import annotations

import typing

import pytest

from lensmount_service.jobs.records import ENDED, STATES, Job, JobRequest, Lease, State, iso

if typing.TYPE_CHECKING:
    from tests.service.jobs.conftest import RequestOf


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1970-01-01T00:00:00.000Z"), (1e9 + 0.25, "2001-09-09T01:46:40.250Z"), (59.9994, "1970-01-01T00:00:59.999Z")],
)
def test_a_time_is_iso_8601_in_utc_with_milliseconds(seconds: float, text: str) -> None:
    assert iso(seconds) == text


def job(request: JobRequest, state: State) -> Job:
    return Job("0" * 32, 1, request, state, 1, False, None, None, None, 0.0, None, None)


def test_a_job_has_ended_in_three_of_the_five_states(request_of: RequestOf) -> None:
    assert {state for state in STATES if job(request_of(), state).ended} == ENDED
    assert set(STATES) - ENDED == {"queued", "running"}


def test_a_lease_has_the_id_of_its_job(request_of: RequestOf) -> None:
    assert Lease(job(request_of(), "running"), "token").id == "0" * 32
