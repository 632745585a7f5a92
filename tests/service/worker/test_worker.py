"""One worker in this process, and a real server in another thread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import SecretStr

from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.training import train_adapter
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.result import TrainingResult
from lensmount_adapters.training.train_adapter import Listener, Progress
from lensmount_service.errors import Unauthorized, Unavailable
from lensmount_service.worker import attempt, worker
from lensmount_service.worker.server_client import require_server
from lensmount_service.worker.settings import WorkerSettings
from lensmount_service.worker.worker import open_worker

if TYPE_CHECKING:
    from tests.service.conftest import Until
    from tests.service.worker.conftest import Submit, Work


def job(client: httpx.Client, job_id: str) -> Any:
    return client.get(f"/jobs/{job_id}").json()


def test_a_job_that_cannot_be_trained_fails_with_its_code_and_the_worker_lives(
    client: httpx.Client, work: Work, submit: Submit
) -> None:
    broken = submit(head="mlp:8", batch_size=1)
    fine = submit()
    work()
    found = job(client, broken)
    assert (found["state"], found["error"]["code"], found["attempt"]) == ("failed", "training_failed", 1)
    assert "a batch of one image for a head with BatchNorm" in found["error"]["message"]
    assert job(client, fine)["state"] == "succeeded"


def test_an_attempt_that_fails_is_repeated_and_resumes_from_its_checkpoint(
    client: httpx.Client, work: Work, monkeypatch: pytest.MonkeyPatch, until: Until, tmp_path: Path, submit: Submit
) -> None:
    monkeypatch.setattr(worker, "RETRY_S", (0.0, 0.0))
    failures: list[Progress] = []

    def train(config: TrainingConfig, on_progress: Listener, *others: Any) -> TrainingResult:
        if not failures:

            def listen(progress: Progress) -> None:
                on_progress(progress)
                if progress.done is not None and progress.epoch == 2:
                    until(lambda: list((tmp_path / "jobs").glob("*/checkpoint")))  # the server has one
                    failures.append(progress)
                    raise MemoryError("no more")

            return train_adapter.train(config, listen, *others)
        return train_adapter.train(config, on_progress, *others)

    monkeypatch.setattr(attempt, "train", train)
    job_id = submit(epochs=4)
    work()
    found = job(client, job_id)
    assert (found["state"], found["attempt"]) == ("succeeded", 2)
    assert [epoch["epoch"] for epoch in found["history"]] == [1, 2, 3, 4]
    log = client.get(f"/jobs/{job_id}/log").text
    assert "MemoryError: no more (attempt_failed)" in log
    assert "resuming from the checkpoint" in log


def test_a_job_whose_attempts_all_fail_has_failed(
    client: httpx.Client, work: Work, monkeypatch: pytest.MonkeyPatch, submit: Submit
) -> None:
    monkeypatch.setattr(worker, "RETRY_S", (0.0, 0.0))

    def train(*arguments: object) -> None:
        raise RuntimeError("segment 3 exploded")

    monkeypatch.setattr(attempt, "train", train)
    job_id = submit(max_attempts=2)
    work()
    found = job(client, job_id)
    assert (found["state"], found["attempt"]) == ("failed", 2)
    assert found["error"] == {"code": "attempt_failed", "message": "RuntimeError: segment 3 exploded"}


def test_a_job_of_a_worker_with_a_wrong_token_does_not_fail_but_waits_for_another_worker(
    client: httpx.Client, work: Work, submit: Submit
) -> None:
    job_id = submit()
    work(token="wrong", retry_for_s=0)
    assert (job(client, job_id)["state"], job(client, job_id)["error"]) == ("queued", None)
    assert "unauthorized" in client.get(f"/jobs/{job_id}/log").text


def test_a_worker_that_the_server_refuses_ends_at_its_start(client: httpx.Client) -> None:
    url = str(client.base_url)
    require_server(url, "secret", "test_resnet")
    with pytest.raises(Unauthorized):
        require_server(url, "wrong", "test_resnet")
    with pytest.raises(Unavailable, match="Fix: --backbone test_resnet"):
        require_server(url, "secret", "resnet34")
    require_server("http://127.0.0.1:1", None, "resnet34")  # not there yet


def test_a_worker_whose_backbone_a_job_has_changed_ends(
    client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, submit: Submit
) -> None:
    backbone = load_backbone("test_resnet", "random:0")

    def train(*arguments: object) -> None:
        next(backbone.module.parameters()).data.add_(1)
        raise TrainingError("in the middle")

    monkeypatch.setattr(attempt, "train", train)
    first, second = submit(), submit()
    settings = WorkerSettings(
        token=SecretStr("secret"), state=tmp_path, server=str(client.base_url), threads=1, once=True
    )
    with open_worker(settings, backbone) as own:
        own.run()
        assert own.damaged
    assert [job(client, job_id)["state"] for job_id in (first, second)] == ["failed", "queued"]
