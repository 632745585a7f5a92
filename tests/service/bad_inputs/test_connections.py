"""Rows that need a connection: the real app behind the real transport, spoken to byte by byte."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

from lensmount_service.build import Parts
from lensmount_service.web.transport import TransportLimits, protocol_of

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts, Until

HOST = b"Host: 127.0.0.1\r\n"
PUT = b"PUT /adapters/cells HTTP/1.1\r\n" + HOST
ALIAS = b"PUT /adapters/cells/aliases/prod HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n"

Address = tuple[str, int]


@pytest.fixture(scope="module")
def parts(make_shared_parts: MakeParts) -> Iterator[Parts]:
    with make_shared_parts(max_adapter_bytes=2**20) as parts:
        yield parts


@pytest.fixture(scope="module")
def address(parts: Parts) -> Iterator[Address]:
    """The address of the app, whose clients have half a second for a body."""
    limits = TransportLimits(body_timeout_s=0.5)
    config = uvicorn.Config(parts.app, http=protocol_of(limits), ws="none", log_config=None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join()


def told(address: Address, request: bytes, rest: Iterator[bytes] = iter(())) -> list[tuple[int, Any]]:
    """Send the bytes; every response until the server closes the connection, as status and problem."""
    received = b""
    with socket.create_connection(address) as connection:
        connection.settimeout(20)
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
            for block in rest:
                connection.sendall(block)
        with contextlib.suppress(ConnectionError):
            while block := connection.recv(65536):
                received += block
    return list(responses(received))


def responses(received: bytes) -> Iterator[tuple[int, Any]]:
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status == 100:
            continue
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(lines.get(b"content-length", b"0"))
        assert lines.get(b"content-type", b"application/problem+json") == b"application/problem+json"
        yield status, json.loads(received[:length])["code"]
        received = received[length:]


def chunks(count: int, size: int) -> Iterator[bytes]:
    """A chunked body of `count` chunks, a thousand of them at a time."""
    for _ in range(count // 1000):
        yield b"%x\r\n%b\r\n" % (size, b" " * size) * 1000
    yield b"0\r\n\r\n"


HEADS: dict[str, tuple[bytes, int, str]] = {
    "HDR-02 5,000 headers": (PUT + b"X: a\r\n" * 5000 + b"\r\n", 431, "headers_too_large"),
    "HDR-02 65 short ones": (PUT + b"X: a\r\n" * 65 + b"Connection: close\r\n\r\n", 431, "headers_too_large"),
    "HDR-04 a length and chunks": (PUT + b"Content-Length: 3\r\n" + CHUNKED + b"\r\n0\r\n\r\n", 400, "bad_request"),
    "HDR-04 chunks and a length": (PUT + CHUNKED + b"Content-Length: 3\r\n\r\n0\r\n\r\n", 400, "bad_request"),
    "HDR-04 chunks that are not last": (PUT + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400, "bad_request"),
    "HDR-05 two lengths": (PUT + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "bad_request"),
    "HDR-05 a negative length": (PUT + b"Content-Length: -1\r\n\r\n", 400, "bad_request"),
    "HDR-05 a length in words": (PUT + b"Content-Length: two\r\n\r\n", 400, "bad_request"),
    "HDR-05 a length beyond 64 bits": (PUT + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n", 400, "bad_request"),
    "HDR-05 a chunk of no size": (PUT + CHUNKED + b"\r\nzz\r\n", 400, "bad_request"),
    "HDR-05 a chunk beyond 64 bits": (PUT + CHUNKED + b"\r\n" + b"f" * 20 + b"\r\n", 400, "bad_request"),
    "HDR-06 no Host": (b"GET /adapters HTTP/1.1\r\nConnection: close\r\n\r\n", 421, "host_not_allowed"),
    "HDR-06 an empty Host": (b"GET /adapters HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n", 421, "host_not_allowed"),
    "HDR-06 two Hosts": (
        b"GET /adapters HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        400,
        "bad_request",
    ),
    "HDR-07 hello of TLS": (b"\x16\x03\x01\x02\x00\x01\x00", 400, "bad_request"),
    "HDR-07 HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
    "HDR-07 noise": (bytes(range(256)), 400, "bad_request"),
    "HDR-07 a NUL in a header": (PUT + b"X: a\0b\r\n\r\n", 400, "bad_request"),
    "HDR-07 a header without a colon": (PUT + b"nothing\r\n\r\n", 400, "bad_request"),
    "HDR-07 a space before the colon": (PUT + b"X : a\r\n\r\n", 400, "bad_request"),
    "HDR-16 a length over the limit": (
        PUT + b"Expect: 100-continue\r\nContent-Length: 9000000\r\n\r\n",
        413,
        "body_too_large",
    ),
    "MP-16 a body that stalls": (PUT + b"Content-Length: 9000\r\n\r\nabc", 408, "request_timeout"),
}


@pytest.mark.parametrize("row", HEADS)
def test_a_bad_head_is_answered_once_and_the_connection_closed(address: Address, row: str) -> None:
    request, status, code = HEADS[row]

    assert told(address, request) == [(status, code)]
    assert httpx.get(f"http://{address[0]}:{address[1]}/health/live").status_code == 200


def test_mp_17_what_follows_a_body_that_was_refused_is_no_second_request(address: Address, parts: Parts) -> None:
    """Bytes behind a short Content-Length look like a request: the first answer closes, or they have their own."""
    smuggled = b"DELETE /adapters/cells HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"

    answers = told(address, PUT + b"Content-Length: 3\r\n\r\nabc" + smuggled)
    assert answers[0] == (422, "adapter_malformed")
    assert answers[1:] in ([], [(404, "adapter_not_found")])  # a client that sends two requests may have two answers
    assert told(address, PUT + b"Content-Length: 9000000\r\n\r\nabc" + smuggled) == [(413, "body_too_large")]


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_mp_18_a_million_chunks_of_one_byte_are_refused_and_leave_no_memory(address: Address, until: Until) -> None:
    few = told(address, ALIAS + CHUNKED + b"Connection: close\r\n\r\n", chunks(100_000, 1))
    assert few == [(400, "bad_request")]  # spaces are no JSON
    before = resident_bytes()

    assert told(address, ALIAS + CHUNKED + b"\r\n", chunks(1_100_000, 1)) in ([(413, "body_too_large")], [])

    until(lambda: resident_bytes() - before < 16 * 2**20)


SPOOFED: dict[str, dict[str, str]] = {
    "HDR-15 X-Forwarded-For": {"X-Forwarded-For": "203.0.113.9"},
    "HDR-15 a list": {"X-Forwarded-For": "203.0.113.9, 127.0.0.1, ::1"},
    "HDR-15 X-Forwarded-Host": {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"},
    "HDR-15 Forwarded": {"Forwarded": "for=203.0.113.9;host=evil.example;proto=https"},
    "HDR-15 X-Real-IP": {"X-Real-IP": "203.0.113.9", "Via": "1.1 evil"},
    "HDR-15 not an address": {"X-Forwarded-For": "'; DROP TABLE tokens; --" * 9},
}


@pytest.mark.parametrize("row", SPOOFED)
def test_an_address_that_a_client_states_changes_nothing(address: Address, row: str) -> None:
    url = f"http://{address[0]}:{address[1]}"
    plain, spoofed = (httpx.get(f"{url}/whoami", headers=headers) for headers in ({}, SPOOFED[row]))

    assert (spoofed.status_code, spoofed.json()) == (plain.status_code, plain.json())
    assert httpx.get(f"{url}/docs", headers=SPOOFED[row], follow_redirects=False).status_code == 200
    assert httpx.get(f"{url}/whoami", headers={**SPOOFED[row], "Host": "evil.example"}).status_code == 421


BODIES: dict[str, Callable[[], Iterator[bytes]]] = {
    "JSN-11 10 MB of spaces": lambda: iter([b" " * 2**20] * 10),
    "JSN-11 400 MB of line feeds": lambda: iter([b"\n" * 2**20] * 400),
    "JSN-11 10 MB of an array": lambda: iter([b"[" + b"1," * 2**19] * 10),
}


@pytest.mark.parametrize("row", BODIES)
def test_a_json_body_over_the_limit_is_refused_while_it_arrives(address: Address, row: str) -> None:
    sent = 0

    def counted() -> Iterator[bytes]:
        nonlocal sent
        for block in BODIES[row]():
            yield b"%x\r\n%b\r\n" % (len(block), block)
            sent += len(block)

    assert told(address, ALIAS + CHUNKED + b"\r\n", counted()) in ([(413, "body_too_large")], [])
    assert sent < 20 * 2**20  # what was in flight when the server closed
