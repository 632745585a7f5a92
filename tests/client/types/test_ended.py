"""The errors of jobs that ended without an adapter."""

from __future__ import annotations

import pickle

import pytest
from tests.client.job_answers import DOCUMENT

from lensmount_client import JobCancelled, JobEnded, JobFailed, NotPublished
from lensmount_client._api.read_jobs import job_of
from lensmount_client._http.json_fields import JsonFields

CODES = {JobCancelled: "job_cancelled", JobFailed: "killed", NotPublished: "not_published"}


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_each_keeps_its_job_and_its_code_through_pickling(kind: type[JobEnded]) -> None:
    job = job_of(JsonFields({**DOCUMENT, "error": {"code": "killed", "message": "no memory"}}, "job", None))
    error = pickle.loads(pickle.dumps(kind("it ended", job)))
    assert (type(error), str(error), error.detail, error.code) == (kind, "it ended", "it ended", CODES[kind])
    assert error.job == job
