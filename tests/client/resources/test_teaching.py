"""`client.teach`: from a folder to a live adapter in one call."""

from __future__ import annotations

import asyncio
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.client.pets import hurried, make_folder
from tests.client.tiny_training import RESULT

from lensmount_client import AsyncClient, Client, InvalidInput, JobFailed, NotPublished, Taught, TeachProgress


def test_a_folder_becomes_a_live_adapter_in_one_call(server: Any, tmp_path: Path) -> None:
    server.training.outcome["result"]["metrics"]["test"]["count"] = 9
    with Client(server.url) as client:
        found = client.teach(make_folder(tmp_path), name="mine", epochs=3, alias="prod")

    assert server.training.bodies == [{"dataset": "mine@1", "adapter": "mine", "epochs": 3, "alias": "prod"}]
    assert found.adapter.version == 1
    assert found.dataset.name == "mine"
    assert (found.labels, found.images, found.tested) == (("cat", "dog"), 3, 9)
    assert (found.balanced_accuracy, found.seconds) == (0.962, 41.0)
    assert found.job_id in server.training.known
    assert str(found) == "pets@1: 2 classes, balanced accuracy 96.2% on 9 test images"
    assert found.name == "pets"


def test_the_async_client_teaches_too(server: Any, tmp_path: Path) -> None:
    folder = make_folder(tmp_path)

    async def run() -> Taught:
        async with AsyncClient(server.url) as client:
            return await client.teach(folder, name="mine")

    with Client(server.url) as client:
        again = client.teach(folder, name="mine")
    found = asyncio.run(run())
    assert (found.adapter, found.labels, found.dataset) == (again.adapter, again.labels, again.dataset)


def test_progress_is_told_in_one_form_from_the_upload_to_the_last_phase(server: Any, tmp_path: Path) -> None:
    told: list[TeachProgress] = []
    with Client(server.url) as client:
        client.teach(make_folder(tmp_path), name="mine", progress=told.append)

    assert [progress.step for progress in told[:2]] == ["upload", "upload"]
    steps = list(dict.fromkeys(progress.step for progress in told))
    assert steps == ["upload", "queued", "starting", "training"]
    assert all(0 <= progress.share <= 1 for progress in told)
    assert "training epoch 3 of 3, 0:00:09 left" in [progress.message for progress in told]
    assert "warning: few images" in [progress.message for progress in told]
    assert [a for a, b in pairwise(told) if a == b] == []  # nothing is told twice in a row


def test_without_a_test_part_the_figure_is_not_a_number_and_says_why(server: Any, tmp_path: Path) -> None:
    server.training.outcome = {"state": "succeeded", "result": RESULT | {"metrics": {}}}
    with Client(server.url) as client:
        found = client.teach(make_folder(tmp_path), name="mine")
    assert math.isnan(found.balanced_accuracy)
    assert str(found) == "pets@1: 2 classes, not measured, because there was no test part"


def test_an_adapter_that_the_gate_refuses_is_an_error_with_its_job(server: Any, tmp_path: Path) -> None:
    gate = RESULT["gate"] | {"passed": False, "reason": "0.80 is worse than 0.96 by more than 0.01"}
    refused = RESULT | {"published": False, "adapter": None, "gate": gate}
    server.training.outcome = {"state": "succeeded", "result": refused}
    with (
        Client(server.url) as client,
        pytest.raises(NotPublished, match=r"worse than 0.96.*Fix: more or.*force=True") as c,
    ):
        client.teach(make_folder(tmp_path), name="mine")
    error = c.value
    assert (error.code, error.request_id, error.detail) == ("not_published", None, str(error))
    assert error.job.result is not None
    assert error.job.result.files[0] == "adapter.safetensors"


def test_a_failed_job_is_an_error(server: Any, tmp_path: Path) -> None:
    server.training.outcome = {"state": "failed", "error": {"code": "killed", "message": "no memory"}}
    with Client(server.url) as client, pytest.raises(JobFailed, match="no memory") as caught:
        client.teach(make_folder(tmp_path), name="mine")
    assert caught.value.code == "killed"


def test_a_server_without_a_worker_is_told_and_not_waited_for_in_silence(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = server.training.submit

    def without_a_worker(*arguments: Any) -> Any:
        status, document, headers = submit(*arguments)
        return status, document | {"workers": 0}, headers

    monkeypatch.setattr(server.training, "submit", without_a_worker)
    told: list[TeachProgress] = []
    with Client(server.url) as client:
        with pytest.warns(UserWarning, match=r"sees no worker.*Fix: start one with `lensmount worker`"):
            client.teach(make_folder(tmp_path), name="mine")
        client.teach(tmp_path / "pets", name="mine", progress=told.append)
    assert "sees no worker" in next(progress.message for progress in told if progress.step == "queued")


@pytest.mark.parametrize(
    ("path", "name", "told"),
    [
        ("photos", "My Task", "adapter name: found 'My Task'"),
        ("photos", "mine", "photos: found no such file or folder"),
        ("https://example.com/a.zip", "mine", r"found a URL \(https:...\), .*Fix: download it"),
    ],
)
def test_what_cannot_be_taught_is_refused_before_any_request(server: Any, path: str, name: str, told: str) -> None:
    with hurried(server.url) as client, pytest.raises(InvalidInput, match=told):
        client.teach(path, name=name)
    assert server.training.bodies == []
    assert server.training.ranges == []
