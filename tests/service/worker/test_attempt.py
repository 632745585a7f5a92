"""One attempt at a job: it trains, compares with the version that it would replace, sends its files and publishes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from lensmount_service.access.tokens import TokenStore
from lensmount_service.jobs.files import MEDIA_TYPES
from lensmount_service.jobs.phases import AFTER_TRAINING, PHASES
from lensmount_service.store.database import Database
from lensmount_service.worker import attempt, worker
from lensmount_service.worker.heartbeat import Heartbeat
from lensmount_service.worker.server_client import ServerClient

if TYPE_CHECKING:
    from tests.service.worker.conftest import Submit, Work


def job(client: httpx.Client, job_id: str) -> Any:
    return client.get(f"/jobs/{job_id}").json()


def test_a_worker_reports_each_phase_once_and_in_order(
    client: httpx.Client, work: Work, monkeypatch: pytest.MonkeyPatch, submit: Submit
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
    job_id = submit()
    work()
    assert job(client, job_id)["state"] == "succeeded"
    assert phases == [phase for phase in PHASES if phase in ("training", *AFTER_TRAINING)]


def test_a_job_becomes_a_live_adapter_with_its_files_and_its_history(
    client: httpx.Client, work: Work, tmp_path: Path, submit: Submit
) -> None:
    job_id = submit(alias="prod", description="red or green", license="CC0")
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
    assert set(result["files"]) == set(MEDIA_TYPES) - {"results.jsonl"}  # of jobs that label
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


def test_a_job_of_a_tenant_reads_a_public_dataset_and_publishes_for_the_tenant(
    client: httpx.Client, work: Work, tmp_path: Path, submit: Submit
) -> None:
    client.put("/datasets/cells/shared").raise_for_status()
    with contextlib.closing(Database(tmp_path / "registry.sqlite3")) as database:
        _, secret = TokenStore(database).create("reader", {"train"}, "lab1")
    lab = httpx.Client(base_url=client.base_url, trust_env=False, headers={"Authorization": f"Bearer {secret}"})
    with lab:
        jobs = []
        for _ in range(2):  # the second is compared with the first
            jobs.append(submit(by=lab, dataset="public/cells"))
            work()
        results = [job(lab, job_id)["result"] for job_id in jobs]

        assert [result["adapter"]["name"] for result in results] == ["malaria", "malaria"]
        assert [result["gate"]["replaced"] is None for result in results] == [True, False]
        assert lab.get("/adapters/malaria").json()["tenant"] == "lab1"
        assert lab.get("/adapters/malaria").json()["owner"] == "reader"
        assert lab.get(f"/jobs/{jobs[0]}/files/report.html").status_code == 200
    assert client.get("/adapters").json() == {"adapters": []}
    assert client.get("/jobs").json() == {"jobs": []}


def test_a_worse_adapter_is_not_published_but_its_files_are_there(
    client: httpx.Client, work: Work, monkeypatch: pytest.MonkeyPatch, submit: Submit
) -> None:
    submit()
    work()
    job_id = submit(author="Ada", intended_use="Red and green squares.")
    monkeypatch.setattr(attempt, "accuracy_of", lambda *arguments: 2.0)  # better than can be
    work()
    found = job(client, job_id)

    assert (found["state"], found["result"]["published"], found["result"]["adapter"]) == ("succeeded", False, None)
    assert "worse by more than the margin" in found["result"]["gate"]["reason"]
    assert client.get("/adapters/malaria").json()["versions"] == [1]
    assert client.get(f"/jobs/{job_id}/files/adapter.safetensors").status_code == 200
    page = client.get(f"/jobs/{job_id}/files/report.html").text
    assert "Compared with the version before" in page
    assert "Author: <bdi>Ada</bdi>" in page
    assert "Red and green squares." in page

    forced = submit(force=True)
    work()
    assert job(client, forced)["result"]["adapter"]["version"] == 2


def test_a_job_with_a_canary_leaves_the_alias_and_a_gate_that_fails_publishes_nothing(
    client: httpx.Client, work: Work, monkeypatch: pytest.MonkeyPatch, submit: Submit
) -> None:
    submit(alias="prod", canary=10)
    work()
    first = client.get("/adapters/malaria").json()
    assert (first["aliases"], first["rollouts"]) == ({"prod": 1}, {})  # a new alias is set

    job_id = submit(alias="prod", canary=10, seed=1, force=True)
    work()
    found = job(client, job_id)
    assert (found["canary"], found["result"]["adapter"]["version"]) == (10, 2)
    second = client.get("/adapters/malaria").json()
    assert second["aliases"] == {"prod": 1}
    assert second["rollouts"]["prod"]["canary"] == {"version": 2, "percent": 10, "key": "request"}

    submit(alias="prod", canary=10, seed=2)
    monkeypatch.setattr(attempt, "accuracy_of", lambda *arguments: 2.0)  # better than can be
    work()
    third = client.get("/adapters/malaria").json()
    assert (third["versions"], third["rollouts"]) == ([1, 2], second["rollouts"])


def test_a_version_that_appears_during_the_comparison_is_compared_with_next(
    client: httpx.Client, work: Work, monkeypatch: pytest.MonkeyPatch, submit: Submit
) -> None:
    submit()
    work()
    other = client.get("/adapters/malaria/file").content
    submit(adapter="other", seed=1)
    work()
    rival = client.get("/adapters/other/file").content
    compared = []

    def accuracy(data: bytes, *arguments: object) -> float:
        compared.append(data)
        if len(compared) == 1:
            client.put("/adapters/malaria", content=rival).raise_for_status()
        return 0.0

    monkeypatch.setattr(attempt, "accuracy_of", accuracy)
    job_id = submit()
    work()
    found = job(client, job_id)
    assert compared == [other, rival]
    assert (found["result"]["adapter"]["version"], found["result"]["gate"]["replaced"]["version"]) == (3, 2)


def test_a_checkpoint_that_does_not_fit_is_ignored(
    client: httpx.Client, work: Work, monkeypatch: pytest.MonkeyPatch, submit: Submit
) -> None:
    fetch = ServerClient.fetch

    def damaged(self: ServerClient, path: str, target: Path, **options: Any) -> None:
        if path.endswith("/checkpoint"):
            target.write_bytes(b"not a checkpoint")
        else:
            fetch(self, path, target, **options)

    monkeypatch.setattr(ServerClient, "fetch", damaged)
    job_id = submit()
    work()
    assert job(client, job_id)["state"] == "succeeded"
    assert "starting from the first epoch" in client.get(f"/jobs/{job_id}/log").text


def test_an_archive_is_fetched_once_and_the_cache_keeps_its_limit(
    client: httpx.Client, work: Work, tmp_path: Path, submit: Submit
) -> None:
    for _ in range(2):
        submit()
    work()
    assert len(list((tmp_path / "worker" / "datasets").iterdir())) == 1
    assert sum("fetched" in client.get(f"/jobs/{j['id']}/log").text for j in client.get("/jobs").json()["jobs"]) == 1
    submit()
    next((tmp_path / "worker" / "datasets").iterdir()).unlink()
    work(cache_bytes=0)
    assert list((tmp_path / "worker" / "datasets").iterdir()) == []


def test_without_a_test_part_the_gate_compares_on_the_validation_part(
    client: httpx.Client, work: Work, submit: Submit
) -> None:
    job_id = submit(test_fraction=0.0)
    work()
    found = job(client, job_id)
    assert found["state"] == "succeeded"
    assert found["result"]["gate"]["balanced_accuracy"] == found["result"]["metrics"]["validation"]["balanced_accuracy"]
