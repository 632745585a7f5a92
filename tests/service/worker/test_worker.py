"""One worker in this process, and a real server in another thread."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from pydantic import SecretStr

from lensmount_adapters import Backbone
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.training import train_adapter
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.result import TrainingResult
from lensmount_adapters.training.train_adapter import Listener, Progress
from lensmount_service.build import open_parts
from lensmount_service.errors import Unauthorized, Unavailable
from lensmount_service.jobs.files import MEDIA_TYPES
from lensmount_service.jobs.phases import AFTER_TRAINING, PHASES
from lensmount_service.settings import Settings
from lensmount_service.worker import attempt, worker
from lensmount_service.worker.heartbeat import Heartbeat
from lensmount_service.worker.server_client import ServerClient, require_server
from lensmount_service.worker.settings import WorkerSettings
from lensmount_service.worker.worker import open_worker

if TYPE_CHECKING:
    from tests.service.conftest import MakeImages, Until

JOB = {
    "dataset": "cells",
    "method": "norm",
    "epochs": 2,
    "size": 32,
    "batch_size": 8,
    "learning_rate": 0.02,
    "average": 0,
}


@pytest.fixture(scope="module")
def tiny() -> tuple[Backbone, Backbone]:
    return load_backbone("test_resnet", "random:0"), load_backbone("test_resnet", "random:0")


@contextmanager
def serving(state: Path, backbone: Backbone, **settings: Any) -> Iterator[httpx.Client]:
    """A server on a free port, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        own = Settings(state=state, zoo=False, threads=1, **settings)
        with open_parts(own, backbone) as parts:
            server = uvicorn.Server(uvicorn.Config(parts.app, log_config=None, lifespan="on", timeout_keep_alive=300))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            try:
                with httpx.Client(
                    timeout=300,
                    base_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
                    trust_env=False,
                    headers={"Authorization": "Bearer secret"},
                ) as client:
                    yield client
            finally:
                server.should_exit = True
                thread.join()


@pytest.fixture
def client(tmp_path: Path, tiny: tuple[Backbone, Backbone], make_images: MakeImages) -> Iterator[httpx.Client]:
    with serving(tmp_path, tiny[0], token="secret") as client:
        push(client, tmp_path, make_images)
        yield client


def push(client: httpx.Client, tmp_path: Path, make_images: MakeImages, each: int = 10) -> None:
    make_images(tmp_path / "images", ("a", "b"), each)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for path in sorted((tmp_path / "images").rglob("*.png")):
            file.write(path, path.relative_to(tmp_path / "images").as_posix())
    headers = {"Content-Type": "application/zip"}
    client.put("/datasets/cells", content=buffer.getvalue(), headers=headers).raise_for_status()


@pytest.fixture
def work(client: httpx.Client, tmp_path: Path, tiny: tuple[Backbone, Backbone]) -> Callable[..., None]:
    """`work()` lets a worker go through the queued jobs."""

    def run(**settings: Any) -> None:
        values = {"token": "secret", "state": tmp_path, "server": str(client.base_url), "threads": 1, "once": True}
        with open_worker(WorkerSettings(**{**values, "retry_for_s": 5, **settings}), tiny[1]) as own:
            own.run()

    return run


def submit(client: httpx.Client, **fields: Any) -> Any:
    response = client.post("/jobs", json={**JOB, "adapter": "malaria", **fields})
    assert response.status_code == 201, response.text
    return response.json()["id"]


def job(client: httpx.Client, job_id: str) -> Any:
    return client.get(f"/jobs/{job_id}").json()


def test_a_worker_reports_each_phase_once_and_in_order(
    client: httpx.Client, work: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    phases: list[str] = []

    class Recording(Heartbeat):
        @property
        def progress(self) -> dict[str, Any] | None:
            return self._progress

        @progress.setter
        def progress(self, progress: dict[str, Any] | None) -> None:
            self._progress = progress
            if progress is not None and progress["phase"] not in phases[-1:]:
                phases.append(progress["phase"])

    monkeypatch.setattr(worker, "Heartbeat", Recording)
    job_id = submit(client)
    work()
    assert job(client, job_id)["state"] == "succeeded"
    assert phases == [phase for phase in PHASES if phase in ("training", *AFTER_TRAINING)]


def test_a_job_becomes_a_live_adapter_with_its_files_and_its_history(
    client: httpx.Client, work: Callable[..., None], tmp_path: Path
) -> None:
    job_id = submit(client, alias="prod", description="red or green", license="CC0")
    work()
    found = job(client, job_id)

    assert (found["state"], found["attempt"], found["error"]) == ("succeeded", 1, None)
    result = found["result"]
    assert result["published"] is True
    assert result["gate"]["passed"] is True
    assert result["gate"]["replaced"] is None
    assert result["adapter"] == {"name": "malaria", "version": 1, "digest": result["digest"]}
    assert result["metrics"]["test"]["balanced_accuracy"] == result["gate"]["balanced_accuracy"]
    assert [epoch["epoch"] for epoch in found["history"]] == [1, 2]
    assert set(result["files"]) == set(MEDIA_TYPES)
    for name in result["files"]:
        assert client.get(f"/jobs/{job_id}/files/{name}").status_code == 200
    file = client.get("/adapters/malaria/file").content
    assert client.get(f"/jobs/{job_id}/files/adapter.safetensors").content == file
    assert len(file) == result["size_bytes"]
    entry = client.get("/adapters/malaria").json()
    assert entry["aliases"] == {"prod": 1}
    assert (entry["manifest"]["description"], entry["manifest"]["license"]) == ("red or green", "CC0")
    image = (tmp_path / "images" / "a" / "0.png").read_bytes()
    assert client.post("/predict?adapter=malaria:prod", content=image).status_code == 200
    assert list((tmp_path / "worker" / "jobs").iterdir()) == []


def test_a_worse_adapter_is_not_published_but_its_files_are_there(
    client: httpx.Client, work: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(client)
    work()
    job_id = submit(client)
    monkeypatch.setattr(attempt, "accuracy_of", lambda *arguments: 2.0)  # better than can be
    work()
    found = job(client, job_id)

    assert (found["state"], found["result"]["published"], found["result"]["adapter"]) == ("succeeded", False, None)
    assert "worse by more than the margin" in found["result"]["gate"]["reason"]
    assert client.get("/adapters/malaria").json()["versions"] == [1]
    assert client.get(f"/jobs/{job_id}/files/adapter.safetensors").status_code == 200

    forced = submit(client, force=True)
    work()
    assert job(client, forced)["result"]["adapter"]["version"] == 2


def test_a_version_that_appears_during_the_comparison_is_compared_with_next(
    client: httpx.Client, work: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(client)
    work()
    other = client.get("/adapters/malaria/file").content
    submit(client, adapter="other", seed=1)
    work()
    rival = client.get("/adapters/other/file").content
    compared = []

    def accuracy(data: bytes, *arguments: object) -> float:
        compared.append(data)
        if len(compared) == 1:
            client.put("/adapters/malaria", content=rival).raise_for_status()
        return 0.0

    monkeypatch.setattr(attempt, "accuracy_of", accuracy)
    job_id = submit(client)
    work()
    found = job(client, job_id)
    assert compared == [other, rival]
    assert (found["result"]["adapter"]["version"], found["result"]["gate"]["replaced"]["version"]) == (3, 2)


def test_a_job_that_cannot_be_trained_fails_with_its_code_and_the_worker_lives(
    client: httpx.Client, work: Callable[..., None]
) -> None:
    broken = submit(client, group_regex="patient([0-9]+)")
    fine = submit(client)
    work()
    found = job(client, broken)
    assert (found["state"], found["error"]["code"], found["attempt"]) == ("failed", "dataset_invalid", 1)
    assert "patient" in found["error"]["message"]
    assert job(client, fine)["state"] == "succeeded"


def test_an_attempt_that_fails_is_repeated_and_resumes_from_its_checkpoint(
    client: httpx.Client, work: Callable[..., None], monkeypatch: pytest.MonkeyPatch, until: Until, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker, "RETRY_S", (0.0, 0.0))
    failures: list[Progress] = []

    def train(config: TrainingConfig, on_progress: Listener, backbone: Backbone) -> TrainingResult:
        if not failures:

            def listen(progress: Progress) -> None:
                on_progress(progress)
                if progress.done is not None and progress.epoch == 2:
                    until(lambda: list((tmp_path / "jobs").glob("*/checkpoint")))  # the server has one
                    failures.append(progress)
                    raise MemoryError("no more")

            return train_adapter.train(config, listen, backbone)
        return train_adapter.train(config, on_progress, backbone)

    monkeypatch.setattr(attempt, "train", train)
    job_id = submit(client, epochs=4)
    work()
    found = job(client, job_id)
    assert (found["state"], found["attempt"]) == ("succeeded", 2)
    assert [epoch["epoch"] for epoch in found["history"]] == [1, 2, 3, 4]
    log = client.get(f"/jobs/{job_id}/log").text
    assert "MemoryError: no more (attempt_failed)" in log
    assert "resuming from the checkpoint" in log


def test_a_job_whose_attempts_all_fail_has_failed(
    client: httpx.Client, work: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "RETRY_S", (0.0, 0.0))

    def train(*arguments: object) -> None:
        raise RuntimeError("segment 3 exploded")

    monkeypatch.setattr(attempt, "train", train)
    job_id = submit(client, max_attempts=2)
    work()
    found = job(client, job_id)
    assert (found["state"], found["attempt"]) == ("failed", 2)
    assert found["error"] == {"code": "attempt_failed", "message": "RuntimeError: segment 3 exploded"}


def test_a_checkpoint_that_does_not_fit_is_ignored(
    client: httpx.Client, work: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = ServerClient.fetch

    def damaged(self: ServerClient, path: str, target: Path, **options: Any) -> None:
        if path.endswith("/checkpoint"):
            target.write_bytes(b"not a checkpoint")
        else:
            fetch(self, path, target, **options)

    monkeypatch.setattr(ServerClient, "fetch", damaged)
    job_id = submit(client)
    work()
    assert job(client, job_id)["state"] == "succeeded"
    assert "starting from the first epoch" in client.get(f"/jobs/{job_id}/log").text


def test_an_archive_is_fetched_once_and_the_cache_keeps_its_limit(
    client: httpx.Client, work: Callable[..., None], tmp_path: Path
) -> None:
    for _ in range(2):
        submit(client)
    work()
    assert len(list((tmp_path / "worker" / "datasets").iterdir())) == 1
    assert sum("fetched" in client.get(f"/jobs/{j['id']}/log").text for j in client.get("/jobs").json()["jobs"]) == 1
    submit(client)
    next((tmp_path / "worker" / "datasets").iterdir()).unlink()
    work(cache_bytes=0)
    assert list((tmp_path / "worker" / "datasets").iterdir()) == []


def test_without_a_test_part_the_gate_compares_on_the_validation_part(
    client: httpx.Client, work: Callable[..., None]
) -> None:
    job_id = submit(client, test_fraction=0.0)
    work()
    found = job(client, job_id)
    assert found["state"] == "succeeded"
    assert found["result"]["gate"]["balanced_accuracy"] == found["result"]["metrics"]["validation"]["balanced_accuracy"]


def test_a_job_of_a_worker_with_a_wrong_token_does_not_fail_but_waits_for_another_worker(
    client: httpx.Client, work: Callable[..., None]
) -> None:
    job_id = submit(client)
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
    client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_backbone("test_resnet", "random:0")

    def train(*arguments: object) -> None:
        next(backbone.module.parameters()).data.add_(1)
        raise TrainingError("in the middle")

    monkeypatch.setattr(attempt, "train", train)
    first, second = submit(client), submit(client)
    settings = WorkerSettings(
        token=SecretStr("secret"), state=tmp_path, server=str(client.base_url), threads=1, once=True
    )
    with open_worker(settings, backbone) as own:
        own.run()
        assert own.damaged
    assert [job(client, job_id)["state"] for job_id in (first, second)] == ["failed", "queued"]


def test_the_exit_status_for_a_database_that_is_away_allows_a_restart(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    command = [sys.executable, "-m", "lensmount_client", "worker", "--backbone", "test_resnet", "--weights", "random:0"]
    away = ["--state", str(tmp_path), "--database", "postgresql://nobody@127.0.0.1:1/none"]
    ended = subprocess.run([*command, *away], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 75
    assert len(ended.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["RETRY_FOR_S", "PATIENCE_S"])
def test_the_retry_time_can_be_set_by_its_variable_and_by_the_older_one(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert WorkerSettings().retry_for_s == 600
    monkeypatch.setenv(f"LENSMOUNT_{name}", "7.5")
    assert WorkerSettings().retry_for_s == 7.5


WRONG = {
    "a server that is not a URL": (["--server", "ftp://localhost:8000"], "expected http://HOST:PORT"),
    "an unknown backbone": (["--backbone", "resnet34x"], "resnet34x"),
    "another kind of database": (["--database", "mysql://x"], "expected postgresql://"),
    "a nice beyond 19": (["--nice", "20"], "--nice"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_start_ends_at_once_with_one_line(tmp_path: Path, case: str) -> None:
    options, line = WRONG[case]
    small = ["--backbone", "test_resnet", "--weights", "random:0"]
    ended = subprocess.run(
        [sys.executable, "-m", "lensmount_client", "worker", *small, "--state", str(tmp_path), *options],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 78
    assert line in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
