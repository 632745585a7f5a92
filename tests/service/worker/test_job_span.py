"""The spans of a job belong to the request that queued it, from the server to the worker and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from lensmount_adapters import Backbone
from lensmount_service.errors import Unavailable
from lensmount_service.tracing.span import current
from lensmount_service.tracing.tracer import NoTracer
from lensmount_service.worker import attempt
from lensmount_service.worker.job_span import job_span
from lensmount_service.worker.settings import WorkerSettings
from lensmount_service.worker.worker import open_worker

if TYPE_CHECKING:
    from tests.service.recorded import Recorded

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
JOB = {"dataset": "cells", "adapter": "malaria", "method": "norm", "epochs": 1, "size": 32, "batch_size": 8}


@pytest.fixture
def work(
    traced_client: httpx.Client, tmp_path: Path, tiny: tuple[Backbone, Backbone], recorded: Recorded
) -> Callable[[], None]:
    def run() -> None:
        settings: dict[str, Any] = {"token": "secret", "state": tmp_path, "server": str(traced_client.base_url)}
        own = WorkerSettings(**settings, threads=1, once=True, retry_for_s=5)
        with open_worker(own, tiny[1], recorded.tracer) as worker:
            worker.run()

    return run


def test_a_job_is_one_trace_from_the_client_to_the_worker_and_back(
    traced_client: httpx.Client, work: Callable[[], None], recorded: Recorded
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    job_id = traced_client.post("/jobs", json={**JOB, "average": 0}, headers=headers).json()["id"]
    work()

    result = traced_client.get(f"/jobs/{job_id}").json()["result"]
    mine = [span for span in recorded.spans() if f"{span.context.trace_id:032x}" == TRACE]
    by_name = {span.name: span for span in mine}
    submit, job = by_name["POST /jobs"], by_name["job"]
    assert f"{submit.parent.span_id:016x}" == PARENT
    assert job.parent.span_id == submit.context.span_id
    assert job.kind.name == "CONSUMER"
    assert dict(job.attributes) == {
        "lensmount.job.id": job_id,
        "lensmount.job.attempt": 1,
        "lensmount.adapter.name": "malaria",
    }
    for name in ("fetch", "train", "evaluate", "report", "publish"):
        assert by_name[name].parent.span_id == job.context.span_id, name
        assert job.start_time <= by_name[name].start_time <= by_name[name].end_time <= job.end_time, name
    assert by_name["publish"].attributes["lensmount.adapter.digest"] == result["adapter"]["digest"]
    assert by_name["PUT /adapters/{name}"].parent.span_id == job.context.span_id  # the server's part of the job
    assert by_name["GET /datasets/{name}/file"].parent.span_id == job.context.span_id


def test_a_job_that_fails_says_by_which_error_and_a_retry_belongs_to_its_own_request(
    traced_client: httpx.Client, work: Callable[[], None], recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*arguments: object) -> None:
        raise RuntimeError("segment 3 exploded")

    monkeypatch.setattr(attempt, "train", train)
    job_id = traced_client.post("/jobs", json={**JOB, "max_attempts": 1}).json()["id"]
    work()
    traced_client.post(f"/jobs/{job_id}/retry", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    work()

    first, second = recorded.spans("job")
    assert [span.attributes["error.type"] for span in (first, second)] == ["RuntimeError"] * 2
    assert f"{first.context.trace_id:032x}" != TRACE
    assert f"{second.context.trace_id:032x}" == TRACE


def test_without_tracing_nothing_is_asked_for() -> None:
    with job_span(NoTracer(), None, None) as ending:  # type: ignore[arg-type]
        assert current().recording is False
    with pytest.raises(KeyError), ending.noted():
        raise KeyError
    assert ending.error == "KeyError"


def test_an_attempt_whose_database_is_away_begins_a_trace_of_its_own(recorded: Recorded) -> None:
    def away(job_id: str) -> str:
        raise Unavailable("away")

    job = SimpleNamespace(id="1", attempt=2, request=SimpleNamespace(adapter="malaria"))
    queue: Any = SimpleNamespace(traceparent=away)
    with job_span(recorded.tracer, queue, SimpleNamespace(id="1", job=job)):  # type: ignore[arg-type]
        assert current().recording
    assert [span.parent for span in recorded.spans("job")] == [None]
