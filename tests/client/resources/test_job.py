"""A handle on one job: waiting, its outcome, its files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.client.job_answers import DOCUMENT, END, JOB_ID, WHOLE_STORY, kinds, stream

from lensmount_client import Client, InvalidInput, JobCancelled, JobEvent, JobFailed, JobFinished, JobNotFinished


def test_a_failed_job_raises_with_its_code_and_can_be_retried(server: Any, training: Any) -> None:
    training.outcome = {"state": "failed", "attempt": 3, "error": {"code": "worker_lost", "message": "killed"}}
    with Client(server.url) as client:
        job = client.jobs.submit("pets", "cats")
        with pytest.raises(JobFailed, match="failed after 3 of 3 attempts: killed") as caught:
            job.wait()
        assert (caught.value.code, caught.value.job.state) == ("worker_lost", "failed")
        again = pickle.loads(pickle.dumps(caught.value))
        assert (str(again), again.code) == (str(caught.value), "worker_lost")
        with pytest.raises(JobFinished):
            job.cancel()
        assert job.retry().state == "queued"
        with pytest.raises(JobNotFinished):
            job.retry()
        with pytest.raises(JobNotFinished):
            job.delete_files()
        assert job.cancel().state == "cancelled"
        job.delete_files()
        assert job.files() == []
        training.outcome = {"state": "cancelled"}
        with pytest.raises(JobCancelled, match="was cancelled"):
            job.wait()


def test_a_job_that_the_gate_refused_is_not_an_error(server: Any, training: Any) -> None:
    gate = {"passed": False, "reason": "worse", "margin": 0.01, "forced": False, "balanced_accuracy": 0.9}
    replaced = {"name": "cats", "version": 2, "digest": "sha256:1", "balanced_accuracy": 0.95}
    result: dict[str, Any] = {"published": False, "adapter": None, "gate": {**gate, "replaced": replaced}, "files": []}
    training.outcome = {"state": "succeeded", "result": result}
    with Client(server.url) as client:
        job = client.jobs.submit("pets", "cats").wait()
    assert not job.published
    assert job.result is not None
    assert job.result.gate is not None
    assert job.result.gate.replaced is not None
    assert (job.result.gate.replaced.adapter.version, job.result.gate.replaced.balanced_accuracy) == (2, 0.95)


def test_wait_calls_a_callable_with_each_event(server: Any, training: Any) -> None:
    heard: list[JobEvent] = []
    with Client(server.url) as client:
        client.jobs.submit("pets", "cats").wait(progress=heard.append)
    assert kinds(heard) == WHOLE_STORY


def test_wait_continues_if_the_job_is_retried_meanwhile() -> None:
    documents = [DOCUMENT, DOCUMENT, {**DOCUMENT, "state": "succeeded"}]
    streams = [stream(END), stream(END)]
    naps: list[float] = []

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return streams.pop(0)
        return httpx.Response(200, json=documents.pop(0))

    with Client(transport=httpx.MockTransport(handle), sleep=naps.append) as client:
        assert client.jobs.get(JOB_ID).wait().state == "succeeded"
    assert naps == [1.0]


def test_log_files_and_downloads(server: Any, training: Any, tmp_path: Path) -> None:
    with Client(server.url) as client:
        job = client.jobs.submit("pets", "cats")
        assert job.log() == "started\nended\n"
        assert [file.name for file in job.files()] == ["adapter.safetensors", "report.html", "log.txt"]
        file = job.download("report.html", tmp_path)
        assert (file.path, file.path.read_bytes()) == (tmp_path / "report.html", b"<html>")
        assert job.download("adapter.safetensors", tmp_path / "a.bin").path.read_bytes() == b"weights"
        with pytest.raises(
            InvalidInput, match=r"has no file plan.txt. Existing files: adapter.safetensors, report.html"
        ):
            job.download("plan.txt", tmp_path)
        with pytest.raises(InvalidInput, match="file: found"):
            job.download("../x", tmp_path)
