"""Jobs and their events, read into the types of the SDK."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.client.job_answers import DOCUMENT

from lensmount_client import (
    AdapterId,
    DatasetId,
    JobEnd,
    JobError,
    JobFile,
    JobInfo,
    JobLog,
    JobProgress,
    JobState,
    Replaced,
    UnexpectedResponse,
)
from lensmount_client._api.read_jobs import event_of, file_of, job_of
from lensmount_client._http.json_fields import JsonFields

AT = "2026-01-02T03:04:05Z"
GATE: dict[str, Any] = {"passed": False, "reason": "worse", "margin": 0.01, "forced": False, "balanced_accuracy": 0.9}


def job(**changes: Any) -> JobInfo:
    return job_of(JsonFields({**DOCUMENT, **changes}, "", "r-1"))


def event(kind: str, **data: Any) -> Any:
    return event_of(kind, JsonFields(data, "event", None))


def test_a_job_that_has_just_started_has_no_result_and_no_error() -> None:
    info = job()
    assert info.dataset == DatasetId("pets", 1, "sha256:0")
    assert (info.progress, info.history, info.result, info.error, info.finished_at) == (None, (), None, None, None)
    assert (info.workers, job(workers=2).workers) == (None, 2)
    assert info.raw == DOCUMENT


def test_the_result_says_what_the_gate_compared() -> None:
    replaced = {"name": "cats", "version": 2, "digest": "sha256:1", "balanced_accuracy": None}
    result = {"published": False, "adapter": None, "gate": {**GATE, "replaced": replaced}}
    found = job(state="succeeded", result=result).result
    assert found is not None
    assert found.gate is not None
    assert found.gate.replaced == Replaced(AdapterId("cats", 2, "sha256:1"), None)
    assert (found.published, found.adapter, found.metrics, found.files) == (False, None, {}, ())


def test_each_kind_of_event_has_its_type_and_an_unknown_kind_is_none() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    error = {"code": "worker_lost", "message": "killed"}
    assert event("state", state="failed", attempt=2, at=AT, error=error) == JobState(
        "failed", 2, moment, JobError("worker_lost", "killed")
    )
    assert event("log", level="info", message="caching", at=AT) == JobLog("info", "caching", moment)
    assert event("progress", epoch=1) == JobProgress(1, None, None, None, None, None, None, None)
    assert event("end", state="succeeded") == JobEnd("succeeded")
    assert event("plot", anything=1) is None


def test_a_file_of_a_job_has_its_size_and_digest() -> None:
    fields = JsonFields({"name": "report.html", "size_bytes": 6, "digest": "sha256:2"}, "", None)
    assert file_of(fields) == JobFile("report.html", 6, "sha256:2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"history": [{"epoch": "1"}]}, r"history\[0\].epoch: found '1', expected a whole number"),
        ({"result": {"published": 1}}, "result.published: found 1, expected true or false"),
        ({"cancel_requested": None}, "cancel_requested: found None, expected true or false"),
    ],
)
def test_a_wrong_field_of_a_job_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnexpectedResponse, match=message):
        job(**changes)
