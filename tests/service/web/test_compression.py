from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request

from lensmount_service.errors import BodyTooLarge, RequestError, Unavailable
from lensmount_service.web.compression import ENCODINGS, pack, read_unpacked, unpack
from lensmount_service.web.held_bytes import HeldBytes, Holding

PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
UNPACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}


def read(body: bytes, encoding: str | None, most: int, holding: Holding | None = None) -> bytes:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return messages.pop()

    headers = [] if encoding is None else [(b"content-encoding", encoding.encode())]
    scope = {"type": "http", "headers": headers, "state": {} if holding is None else {"holding": holding}}
    return asyncio.run(read_unpacked(Request(scope, receive), most))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("size", [0, 1, 2**18, 2**18 + 1, 3 * 2**20])
def test_a_body_is_unpacked_as_python_packed_it_and_an_answer_is_packed_as_python_unpacks_it(
    encoding: str, size: int
) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert read(PACKERS[encoding](content), encoding, 2**22) == content
    assert UNPACKERS[encoding](pack(content, encoding)) == content


def test_a_body_that_is_not_packed_is_read_as_it_is() -> None:
    assert read(b"abc", None, 3) == read(b"abc", "identity", 3) == b"abc"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_is_refused_by_its_size_while_it_is_unpacked(encoding: str) -> None:
    bomb = PACKERS[encoding](bytes(200_000_000))
    tracemalloc.start()
    with pytest.raises(BodyTooLarge, match="2000000 bytes after unpacking"):
        read(bomb, encoding, 2_000_000)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 8_000_000


def test_what_is_unpacked_counts_among_the_bytes_in_memory() -> None:
    holding = Holding(HeldBytes(10_000_000))
    assert len(read(gzip.compress(bytes(2_000_000)), "gzip", 4_000_000, holding)) == 2_000_000
    assert 2_000_000 < holding.held < 2_010_000
    with pytest.raises(Unavailable):
        read(gzip.compress(bytes(2_000_000)), "gzip", 4_000_000, Holding(HeldBytes(1_000_000)))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_stream_that_is_cut_short_followed_by_more_or_of_another_format_is_refused(encoding: str) -> None:
    whole = PACKERS[encoding](b"hello" * 1000)
    other = PACKERS["deflate" if encoding == "gzip" else "gzip"](b"hello")
    for body in (whole[:-1], whole + b"x", whole * 2, b"", b"hello", other):
        with pytest.raises(RequestError) as told:
            list(unpack(body, encoding))
        assert told.value.code == "bad_request"


def test_the_advice_for_a_stream_of_another_format_works() -> None:
    with pytest.raises(RequestError, match="pack the whole body once, or leave out the header"):
        list(unpack(b"hello", "gzip"))
    assert b"".join(unpack(gzip.compress(b"hello"), "gzip")) == b"hello"
