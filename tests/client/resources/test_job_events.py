"""The events of a job, over streams that break."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from tests.client.job_answers import DOCUMENT, END, JOB_ID, WHOLE_STORY, kinds, stream
from tests.client.pets import hurried

from lensmount_client import (
    AsyncClient,
    Client,
    Draining,
    JobEnd,
    JobEpoch,
    JobLog,
    JobNotFound,
    JobProgress,
    JobState,
    RetryPolicy,
    ServerUnreachable,
    UnexpectedResponse,
    WaitTimeout,
)
from lensmount_client._resources.job_events import EventFeed


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
