"""One job in the words of a table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.client.job_answers import DOCUMENT

from lensmount_client import JobInfo, JobProgress
from lensmount_client._api.read_jobs import job_of
from lensmount_client._cli.job_table import outcome
from lensmount_client._http.json_fields import JsonFields


@pytest.fixture
def info() -> JobInfo:
    return job_of(JsonFields(DOCUMENT, "", None))


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ("training", "training epoch 2/4"),
        ("caching", "caching epoch 2/4"),
        (None, "training epoch 2/4"),
        ("publishing", "publishing"),
        ("signing", "signing"),
    ],
)
def test_a_list_of_jobs_shows_the_phase_and_the_epoch_if_there_is_one(
    phase: str | None, words: str, info: JobInfo
) -> None:
    progress = JobProgress(2, 4, 1, 2, 0.5, 0.5, None, phase)
    assert outcome(replace(info, state="running", progress=progress)) == words
