"""Jobs by both clients, against the real socket and against streams that break."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from lensmount_client import (
    AsyncClient,
    Client,
    DatasetNotFound,
    Draining,
    InvalidInput,
    JobCancelled,
    JobEnd,
    JobEpoch,
    JobEvent,
    JobFailed,
    JobFinished,
    JobLog,
    JobNotFinished,
    JobNotFound,
    JobProgress,
    JobState,
    RetryPolicy,
    ServerUnreachable,
    UnexpectedResponse,
    WaitTimeout,
)
from lensmount_client._resources.job_events import EventFeed

JOB_ID = "ab" + "0" * 30


@pytest.fixture
def training(server: Any) -> Any:
    """A server that has the dataset `pets`."""
    from io import BytesIO
    from zipfile import ZipFile

    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        archive.writestr("cat/a.png", b"a")
        archive.writestr("dog/b.png", b"b")
    server.training.stored["pets"] = [buffer.getvalue()]
    return server.training


def hurried(url: str, **options: Any) -> Client:
    return Client(url, sleep=lambda seconds: None, **options)


def kinds(events: Sequence[JobEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


WHOLE_STORY = [
    *("JobState", "JobState", "JobLog", "JobProgress", "JobEpoch", "JobLog", "JobEpoch", "JobProgress", "JobEpoch"),
    *("JobState", "JobEnd"),
]


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


def test_events_are_typed_and_unknown_kinds_are_left_out(server: Any, training: Any) -> None:
    with Client(server.url) as client:
        events = list(client.jobs.submit("pets", "cats").events())
    assert kinds(events) == WHOLE_STORY
    assert isinstance(events[0], JobState)
    assert isinstance(events[2], JobLog)
    assert isinstance(events[3], JobProgress)
    assert isinstance(events[4], JobEpoch)
    assert events[0].state == "queued"
    assert events[2].message == "caching the trunk"
    assert (events[3].epoch, events[3].steps, events[3].phase, events[3].seconds_left) == (1, 4, "training", 9.0)
    assert (events[4].epoch, events[4].validation_loss) == (1, 2.0)
    assert events[-1] == JobEnd("succeeded")
    assert training.last_ids == [None]


@pytest.mark.parametrize("cuts", [[0, 0, 3, 1, 2], [1] * 11, [4, 4], [10]])
def test_an_interrupted_stream_resumes_after_the_last_event(cuts: list[int], server: Any, training: Any) -> None:
    training.cuts = list(cuts)
    with hurried(server.url) as client:
        events = list(client.jobs.submit("pets", "cats").events())
    told = [event for event in events if not isinstance(event, JobProgress)]
    assert kinds(told) == [kind for kind in WHOLE_STORY if kind != "JobProgress"]
    assert training.last_ids[0] is None
    numbers = [int(last or 0) for last in training.last_ids]
    assert numbers == sorted(numbers)


def test_reconnecting_is_bounded_by_the_retry_policy(server: Any, training: Any) -> None:
    training.cuts = [3] + [0] * 20
    naps: list[float] = []
    policy = RetryPolicy(retries=4, random=lambda: 0.0)
    with Client(server.url, retries=policy, sleep=naps.append) as client:
        events = client.jobs.submit("pets", "cats").events()
        assert kinds([next(events) for _ in range(3)]) == WHOLE_STORY[:3]
        with pytest.raises(ServerUnreachable):
            next(events)
    assert naps == [0.125, 0.25, 0.5, 1.0]  # the loss after three events is the first in a row


def stream(*events: tuple[str, Any]) -> httpx.Response:
    text = "".join(f"id: {n}\nevent: {kind}\ndata: {json.dumps(data)}\n\n" for n, (kind, data) in enumerate(events, 1))
    return httpx.Response(200, text=text, headers={"Content-Type": "text/event-stream"})


def client_of(*answers: httpx.Response | Exception, **options: Any) -> tuple[Client, list[httpx.Request]]:
    left, seen = list(answers), []

    def handle(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return httpx.Response(200, json=options.get("document", DOCUMENT))
        seen.append(request)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Client(transport=httpx.MockTransport(handle), sleep=lambda s: None, retries=2), seen


DOCUMENT: dict[str, Any] = {
    "id": JOB_ID,
    "state": "running",
    "dataset": {"name": "pets", "version": 1, "digest": "sha256:0"},
    "adapter": "cats",
    "alias": None,
    "hyper_parameters": {},
    "priority": 0,
    "attempt": 1,
    "max_attempts": 3,
    "created_at": "2026-01-02T03:04:05Z",
    "started_at": None,
    "finished_at": None,
    "cancel_requested": False,
    "progress": None,
    "history": [],
    "result": None,
    "error": None,
}
END = ("end", {"state": "succeeded"})
HICCUPS: list[Any] = [
    lambda: httpx.ReadError("reset"),
    lambda: httpx.ReadTimeout("silent for longer than the keep-alives"),
    lambda: httpx.ConnectError("refused"),
    lambda: httpx.Response(503, json={"code": "draining"}),
    lambda: stream(),  # a stream that stops without `end`
]


@pytest.mark.parametrize("hiccup", HICCUPS)
def test_after_every_kind_of_failure_the_stream_resumes(hiccup: Any) -> None:
    client, seen = client_of(hiccup(), hiccup(), stream(END))
    with client:
        assert list(client.jobs.get(JOB_ID).events()) == [JobEnd("succeeded")]
    assert len(seen) == 3


@pytest.mark.parametrize("hiccup", HICCUPS)
def test_repeated_failures_of_a_stream_end_in_an_error(hiccup: Any) -> None:
    client, seen = client_of(*(hiccup() for _ in range(4)))
    with client, pytest.raises((ServerUnreachable, Draining)):
        list(client.jobs.get(JOB_ID).events())
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(404, json={"code": "job_not_found", "detail": "none"}), JobNotFound),
        (httpx.Response(200, text="<html>"), UnexpectedResponse),
        (stream(("epoch", {"epoch": "one"})), UnexpectedResponse),
        (stream(("epoch", [])), UnexpectedResponse),
        (
            httpx.Response(200, text="data: {\n\nevent: end\n\n", headers={"Content-Type": "text/event-stream"}),
            UnexpectedResponse,
        ),
    ],
)
def test_a_response_that_is_not_an_event_stream_is_a_typed_error(
    answer: httpx.Response, error: type[Exception]
) -> None:
    client, seen = client_of(answer)
    with client, pytest.raises(error):
        list(client.jobs.get(JOB_ID).events())
    assert len(seen) == 1


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
        assert job.cancel().state == "cancelled"
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


def test_waiting_ends_at_its_timeout_even_if_the_server_is_silent() -> None:
    now = [0.0]
    feed = EventFeed(JOB_ID, timeout_s=100, clock=lambda: now[0])
    assert feed.read_s(60) == 60
    now[0] = 70
    assert feed.read_s(60) == 30
    assert list(feed.take(b": alive\n\n")) == []
    now[0] = 100
    with pytest.raises(WaitTimeout, match="within 100 s; it continues"):
        list(feed.take(b": alive\n\n"))
    with pytest.raises(WaitTimeout):
        feed.lost(httpx.ReadTimeout("silent"), RetryPolicy(), "http://x")


def test_a_short_timeout_of_the_client_does_not_end_a_quiet_stream() -> None:
    assert EventFeed(JOB_ID).read_s(1.0) == 45.0


def test_a_keep_alive_counts_as_a_sign_of_life() -> None:
    feed, policy = EventFeed(JOB_ID), RetryPolicy(retries=1)
    for _ in range(10):
        feed.lost(None, policy, "http://x")
        assert list(feed.take(b": alive\n\n")) == []


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
            assert (await job.refresh()).ended
            assert [found.id for found in await client.jobs.list()] == [job.id]

    asyncio.run(run())


def test_leaving_the_events_early_closes_the_connection(server: Any, training: Any) -> None:
    with Client(server.url) as client:
        for event in client.jobs.submit("pets", "cats").events():
            assert isinstance(event, JobState)
            break

    async def run() -> None:
        async with AsyncClient(server.url) as client:
            events = (await client.jobs.submit("pets", "cats")).events()
            assert isinstance(await anext(events), JobState)
            await events.aclose()

    asyncio.run(run())
