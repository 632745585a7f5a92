"""A response is read completely, up to its limit."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.client.answers import answering, mocked

from lensmount_client import ResponseTooLarge
from lensmount_client._http.response import Memory, Receiver, Response


def test_an_endless_response_is_cut_off() -> None:
    def forever() -> Any:
        while True:
            yield b"x" * 1000

    handle, _ = answering(httpx.Response(200, content=forever()))
    with mocked(handle, max_response_bytes=10_000) as client, pytest.raises(ResponseTooLarge, match="10000"):
        client.limits()


@pytest.mark.parametrize(("status", "ok"), [(199, False), (200, True), (204, True), (299, True), (300, False)])
def test_only_2xx_is_a_success(status: int, ok: bool) -> None:
    assert Response(status, {}, b"").ok is ok


def test_the_type_of_a_response_has_no_parameters() -> None:
    headers = httpx.Headers({"Content-Type": "Application/JSON; charset=utf-8", "X-Request-Id": "r-1"})
    assert Response(200, headers, b"").content_type == "application/json"
    assert (Response(200, headers, b"").request_id, Response(200, {}, b"").request_id) == ("r-1", None)


@pytest.mark.parametrize(("status", "in_sink", "in_body"), [(200, b"abc", b""), (404, b"before", b"abc")])
def test_only_a_success_goes_to_the_sink_and_starts_it_again(status: int, in_sink: bytes, in_body: bytes) -> None:
    sink = Memory()
    sink.write(b"before")
    receiver = Receiver(status, {}, sink, limit_bytes=3)
    for chunk in (b"ab", b"c"):
        receiver.feed(chunk)
    assert (bytes(sink.body), receiver.response().body) == (in_sink, in_body)
    with pytest.raises(ResponseTooLarge, match="more than 3 bytes"):
        receiver.feed(b"d")
