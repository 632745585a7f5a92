"""Jobs by both clients, against the real socket and against streams that break."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.client.job_answers import JOB_ID

from lensmount_client import (
    AsyncClient,
    Client,
    DatasetNotFound,
    InvalidInput,
    JobEnd,
    JobEpoch,
    JobEvent,
    JobFinished,
    JobNotFound,
)


def test_submit_sends_only_the_given_options_and_wait_returns_the_result(server: Any, training: Any) -> None:
    with Client(server.url) as client:
        job = client.jobs.submit("pets", "cats", epochs=3, rank=4, alias="prod", force=None)
        assert (job.id, job.state, job.ended, job.published) == (JOB_ID, "queued", False, False)
        assert job.wait() is job
    assert training.bodies == [{"dataset": "pets", "adapter": "cats", "epochs": 3, "rank": 4, "alias": "prod"}]
    assert (job.state, job.published) == ("succeeded", True)
    assert job.result is not None
    assert job.result.adapter is not None
    assert (job.result.adapter.version, job.result.metrics["test"]["balanced_accuracy"]) == (1, 0.962)
    assert job.result.gate is not None
    assert job.result.gate.replaced is None
    assert [epoch.validation_balanced_accuracy for epoch in job.info.history] == [0.5, 0.75, 1.0]
    assert repr(job) == f"<Job {JOB_ID} succeeded: cats from pets>"


def test_a_pushed_dataset_is_pinned_to_its_version(server: Any, training: Any) -> None:
    with Client(server.url) as client:
        client.jobs.submit(client.datasets.get("pets"), "cats")
        client.jobs.submit("pets@1", "cats")
    assert [body["dataset"] for body in training.bodies] == ["pets@1", "pets@1"]


def test_each_submit_is_one_job_unless_the_key_is_the_same(server: Any, training: Any) -> None:
    with Client(server.url) as client:
        ids = [client.jobs.submit("pets", "cats").id for _ in range(2)]
        keyed = [client.jobs.submit("pets", "cats", idempotency_key="nightly").id for _ in range(2)]
    assert ids[0] != ids[1]
    assert keyed[0] == keyed[1]


def test_a_submit_whose_response_is_lost_is_retried_with_the_same_key() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if len(seen) == 1:
            raise httpx.ReadError("reset")
        return httpx.Response(422, json={"code": "invalid_request", "detail": "seen enough"})

    with Client(transport=httpx.MockTransport(handle), sleep=lambda s: None) as client:
        with pytest.raises(Exception, match="seen enough"):
            client.jobs.submit("pets", "cats")
    first, second = (request.headers["idempotency-key"] for request in seen)
    assert first == second
    assert len(first) == 32


@pytest.mark.parametrize(
    ("dataset", "adapter", "options"),
    [
        ("Pets", "cats", {}),
        ("pets@0", "cats", {}),
        ("pets@", "cats", {}),
        (7, "cats", {}),
        ("pets", "Cats", {}),
        ("pets", "cats", {"ranks": 3}),
        ("pets", "cats", {"alpha": float("nan")}),
        ("pets", "cats", {"alpha": object()}),
        ("pets", "cats", {"idempotency_key": ""}),
        ("pets", "cats", {"idempotency_key": "a\nb"}),
    ],
)
def test_wrong_arguments_send_nothing(dataset: Any, adapter: str, options: Any) -> None:
    transport = httpx.MockTransport(lambda request: pytest.fail("sent"))
    with Client(transport=transport) as client, pytest.raises(InvalidInput):
        client.jobs.submit(dataset, adapter, **options)


def test_list_is_newest_first_by_state_and_in_pages(server: Any, training: Any) -> None:
    with Client(server.url) as client:
        assert client.jobs.list() == []
        ids = [client.jobs.submit("pets", "cats").id for _ in range(205)]
        assert [job.id for job in client.jobs.list(limit=205)] == ids[::-1]
        assert [job.id for job in client.jobs.list(limit=103)] == ids[::-1][:103]
        client.jobs.get(ids[7]).cancel()
        assert [job.id for job in client.jobs.list(state="cancelled")] == [ids[7]]
        with pytest.raises(InvalidInput, match="state: found 'done', expected one of queued, running"):
            client.jobs.list(state="done")
        with pytest.raises(InvalidInput, match="limit"):
            client.jobs.list(limit=0)


def test_unknown_jobs_and_datasets_are_typed_errors(server: Any, training: Any) -> None:
    with Client(server.url) as client:
        with pytest.raises(JobNotFound):
            client.jobs.get("f" * 32)
        with pytest.raises(InvalidInput, match="job id"):
            client.jobs.get("../adapters")
        with pytest.raises(DatasetNotFound):
            client.jobs.submit("none", "cats")


def test_the_async_client_does_the_same(server: Any, training: Any, tmp_path: Path) -> None:
    training.cuts = [0, 3, 1]

    async def nap(seconds: float) -> None:
        return None

    async def run() -> None:
        async with AsyncClient(server.url, sleep=nap) as client:
            job = await client.jobs.submit("pets", "cats", epochs=3)
            events = [event async for event in job.events()]
            assert isinstance(events[-1], JobEnd)
            assert [e.epoch for e in events if isinstance(e, JobEpoch)] == [1, 2, 3]
            assert (await job.wait()).published
            heard: list[JobEvent] = []
            assert (await (await client.jobs.get(job.id)).wait(progress=heard.append)).state == "succeeded"
            assert isinstance(heard[-1], JobEnd)
            assert await job.log() == "started\nended\n"
            assert len(await job.files()) == 3
            assert (await job.download("report.html", tmp_path)).size_bytes == 6
            with pytest.raises(JobFinished):
                await job.cancel()
            training.known[job.id]["state"] = "failed"
            assert (await job.retry()).state == "queued"
            assert (await job.cancel()).state == "cancelled"
            await job.delete_files()
            assert await job.files() == []
            assert (await job.refresh()).ended
            assert [found.id for found in await client.jobs.list()] == [job.id]

    asyncio.run(run())
