from __future__ import annotations

import random

import pytest

from lensmount_client import ResponseTooLarge
from lensmount_client._http.sse import EventDecoder, ServerSentEvent


def events(content: bytes, sizes: list[int] | None = None) -> list[ServerSentEvent]:
    decoder, found = EventDecoder(), []
    for size in sizes or [len(content)]:
        found += list(decoder.feed(content[:size]))
        content = content[size:]
    return found


STREAM = (
    "\ufeff: hello\n\n"
    "id: 1\nevent: epoch\ndata: {\ndata: }\n\n"
    ": alive\n\n"
    "data:no space\r\n\r\n"
    "data:  two spaces\r\r"
    "event: without data\n\n"
    "retry: 5\nid: 2\nid: with\0nul\ndata: é\n\n"
    "data\n\n"
    "data: never finished\n"
).encode()
EVENTS = [
    ServerSentEvent("epoch", "{\n}", "1"),
    ServerSentEvent("message", "no space", None),
    ServerSentEvent("message", " two spaces", None),
    ServerSentEvent("message", "é", "2"),
    ServerSentEvent("message", "", None),
]


def test_the_rules_of_the_standard() -> None:
    assert events(STREAM) == EVENTS


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_chunk_boundaries_do_not_matter(size: int) -> None:
    assert events(STREAM, [size] * (len(STREAM) // size + 1)) == EVENTS


def test_random_chunk_boundaries_do_not_matter_either() -> None:
    chance = random.Random(0)
    for _ in range(200):
        assert events(STREAM, [chance.randrange(1, 30) for _ in range(len(STREAM))]) == EVENTS


def test_bytes_that_are_not_utf_8_are_replaced_not_raised() -> None:
    assert events(b"data: \xff\n\n") == [ServerSentEvent("message", "\N{REPLACEMENT CHARACTER}", None)]


@pytest.mark.parametrize("flood", [b"data: xxxxxxxx\n" * 20, b"x" * 200])
def test_an_endless_event_is_refused(flood: bytes) -> None:
    with pytest.raises(ResponseTooLarge, match="100 bytes"):
        list(EventDecoder(limit_bytes=100).feed(flood))
