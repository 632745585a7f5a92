"""One call through its attempts: what is retried, how long it waits, and what the last failure says."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.client.answers import answering, good, mocked, said_no

from lensmount_client import (
    AdapterNotFound,
    BackboneMismatch,
    Client,
    Draining,
    QueueFull,
    RetryPolicy,
    ServerUnreachable,
    TimedOut,
    UnexpectedResponse,
)


@pytest.mark.parametrize(
    "hiccup",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.RemoteProtocolError("hung up"),
        httpx.ReadError("reset"),
        httpx.WriteError("reset"),
        said_no(408, "request_timeout"),
        said_no(429, "queue_full"),
        said_no(503, "draining"),
        httpx.Response(503, text="<html>"),
    ],
)
def test_a_temporary_failure_is_retried(hiccup: httpx.Response | Exception) -> None:
    handle, seen = answering(hiccup, hiccup, good())
    naps: list[float] = []
    with mocked(handle, sleep=naps.append) as client:
        assert client.predict(b"pixels", adapter="malaria").top.label == "parasitized"
    assert [request.content for request in seen] == [b"pixels"] * 3
    assert len(naps) == 2


def test_the_wait_is_what_the_server_asks_for() -> None:
    naps: list[float] = []
    policy = RetryPolicy(random=lambda: 0.0, clock=lambda: 0.0)
    handle, _ = answering(
        said_no(429, "queue_full", retry_after="7"),
        said_no(503, "draining", retry_after="Thu, 01 Jan 1970 00:00:11 GMT"),
        said_no(429, "queue_full", retry_after="-5"),
        good(),
    )
    with mocked(handle, retries=policy, sleep=naps.append) as client:
        client.predict(b"pixels", adapter="malaria")
    assert naps == [7.0, 11.0, 0.5]


def test_the_last_error_is_raised_when_the_retries_are_spent() -> None:
    handle, seen = answering(*[said_no(429, "queue_full", retry_after="1")] * 3)
    with mocked(handle, retries=2, sleep=lambda s: None) as client, pytest.raises(QueueFull) as caught:
        client.limits()
    assert len(seen) == 3
    assert caught.value.retry_after_s == 1.0


@pytest.mark.parametrize("refusal", [said_no(409, "backbone_mismatch"), httpx.ReadTimeout("slow")])
def test_permanent_errors_are_not_retried(refusal: httpx.Response | Exception) -> None:
    handle, seen = answering(refusal)
    with mocked(handle) as client, pytest.raises((BackboneMismatch, TimedOut)):
        client.limits()
    assert len(seen) == 1


def test_bad_health_is_reported_at_once() -> None:
    handle, seen = answering(said_no(503, "draining"))
    with mocked(handle) as client, pytest.raises(Draining):
        client.health()
    assert [request.url.path for request in seen] == ["/health/ready"]


def test_without_a_server_the_message_says_how_to_start_one(server: Any) -> None:
    with Client("http://127.0.0.1:9", retries=0) as client, pytest.raises(ServerUnreachable) as caught:
        client.health()
    assert str(caught.value).startswith("no server answers at http://127.0.0.1:9")
    assert "`lensmount serve`" in str(caught.value)
    assert isinstance(caught.value.__cause__, httpx.ConnectError)


def test_a_body_that_cannot_be_decoded_is_a_typed_error() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept-encoding"] == "identity"
        return httpx.Response(200, stream=httpx.ByteStream(b"no gzip"), headers={"Content-Encoding": "gzip"})

    with mocked(handle) as client, pytest.raises(UnexpectedResponse, match="cannot be decoded"):
        client.limits()


@pytest.mark.parametrize("status", [404, 410])
def test_a_delete_whose_answer_was_lost_is_done_if_nothing_is_left(status: int) -> None:
    lost, gone = httpx.ReadError("reset"), said_no(status, "adapter_not_found")
    handle, seen = answering(lost, gone)
    with mocked(handle, sleep=lambda _: None) as client:
        client.adapters.delete("malaria", if_match=f"sha256:{'0' * 64}")
    assert len(seen) == 2


@pytest.mark.parametrize("before", [httpx.ConnectError("refused"), said_no(503, "draining")])
def test_a_delete_that_never_arrived_finds_out_that_there_was_nothing(before: httpx.Response | Exception) -> None:
    handle, _ = answering(before, said_no(404, "adapter_not_found"))
    with mocked(handle, sleep=lambda _: None) as client, pytest.raises(AdapterNotFound):
        client.adapters.delete("malaria")
