"""Connections of hostile and slow clients, on a real server with a small app behind it."""

from __future__ import annotations

import contextlib
import itertools
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from starlette.datastructures import State
from starlette.types import Receive, Scope, Send

from lensmount_service.web.transport import TransportLimits, protocol_of

if TYPE_CHECKING:
    from tests.service.conftest import Until

Address = tuple[str, int]
GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
SHORT = {"head_timeout_s": 0.2, "body_timeout_s": 0.2, "write_timeout_s": 0.2}


class App:
    """Reads the body and answers `ok`; `/big` answers 32 MB; `/wait` answers once `release` is set."""

    def __init__(self) -> None:
        self.refusals: list[tuple[str, int]] = []
        self.state = State({"refused": lambda code, status: self.refusals.append((code, status))})
        self.heads: list[str] = []
        self.received = 0
        self.gone = threading.Event()
        self.release = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        import asyncio

        if scope["type"] != "http":
            return
        scope["app"] = self  # as Starlette does
        self.heads.append(scope["path"])
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone.set()
                return
            self.received += len(message["body"])
            if not message["more_body"]:
                break
        while scope["path"] == "/wait" and not self.release.is_set():
            await asyncio.sleep(0.01)
        body = b"x" * 2**25 if scope["path"] == "/big" else b"ok"
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})


Serve = Callable[..., AbstractContextManager[tuple[App, Address, uvicorn.Server]]]


@pytest.fixture
def serve(until: Until) -> Serve:
    """`with serve(head_timeout_s=0.2) as (app, address, server): ...`"""

    @contextmanager
    def opened(drain_s: int | None = None, **limits: Any) -> Iterator[tuple[App, Address, uvicorn.Server]]:
        app = App()
        config = uvicorn.Config(
            app,
            port=0,
            http=protocol_of(TransportLimits(**limits)),
            ws="none",
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=drain_s,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            until(lambda: server.started)
            yield app, server.servers[0].sockets[0].getsockname(), server
        finally:
            app.release.set()
            server.should_exit = True
            thread.join()

    return opened


@contextmanager
def connected(address: Address) -> Iterator[socket.socket]:
    with socket.create_connection(address) as connection:
        connection.settimeout(20)
        yield connection


def rest_of(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def problem_in(response: bytes) -> tuple[int, Any]:
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)


def send_until_refused(connection: socket.socket, first: bytes, block: bytes, blocks: int) -> int:
    """The bytes that were sent until the server closed, or all of them."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        connection.sendall(first)
        for _ in range(blocks):
            connection.sendall(block)
            sent += len(block)
    return sent


@pytest.mark.parametrize(
    ("first", "block", "status", "code"),
    [
        (POST + b"X-Long: ", b"a" * 4096, 431, "headers_too_large"),
        (POST, b"X-One: a\r\n" * 400, 431, "headers_too_large"),
        (POST + b"X", b"a" * 4096, 431, "headers_too_large"),
        (b"GET /", b"a" * 4096, 414, "uri_too_long"),
        (
            POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Trailer: ",
            b"a" * 4096,
            431,
            "headers_too_large",
        ),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n", b"X: a\r\n" * 700, 431, "headers_too_large"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2;e=", b"a" * 4096, 431, "headers_too_large"),
    ],
    ids=["one value", "many headers", "one name", "a path", "one trailer", "many trailers", "a chunk extension"],
)
def test_a_head_or_a_trailer_without_end_is_refused_while_it_arrives(
    serve: Serve, until: Until, first: bytes, block: bytes, status: int, code: str
) -> None:
    with serve() as (app, address, _), connected(address) as connection:
        connection.sendall(first)
        if b"chunked" in first:
            until(lambda: app.heads == ["/"])
        connection.sendall(block * 8)
        answer = rest_of(connection)
        assert httpx.get(f"http://{address[0]}:{address[1]}").text == "ok"

    assert problem_in(answer)[0] == status
    assert problem_in(answer)[1]["code"] == code
    assert app.refusals == [(code, status)]


def test_48_mb_in_one_header_are_not_read(serve: Serve) -> None:
    with serve() as (app, address, _), connected(address) as connection:
        sent = send_until_refused(connection, POST + b"X-Long: ", b"a" * 65536, 48 * 16)

    assert sent < 12 * 2**20  # what the system's own buffers take
    assert app.heads == []


def test_a_head_within_the_limits_may_arrive_byte_by_byte(serve: Serve) -> None:
    with serve() as (_, address, _), connected(address) as connection:
        for byte in GET[:-1]:
            connection.sendall(bytes([byte]))
        connection.sendall(GET[-1:])
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nNo colon\r\n\r\n", b"hello\r\n\r\n"])
def test_bytes_that_are_not_http_are_answered_with_a_problem(serve: Serve, junk: bytes) -> None:
    with serve() as (app, address, _), connected(address) as connection:
        connection.sendall(junk)
        status, problem = problem_in(rest_of(connection))

    assert (status, problem["code"]) == (400, "bad_request")
    assert app.heads == []


def test_a_body_with_a_broken_chunk_is_answered_once_and_the_app_is_told(serve: Serve) -> None:
    with serve() as (app, address, _), connected(address) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
        answer = rest_of(connection)

    assert answer.count(b"HTTP/1.1 ") == 1
    assert problem_in(answer)[0] == 400
    assert app.gone.wait(20)


def test_200_slow_sockets_are_closed_at_their_deadline_and_others_are_served_meanwhile(serve: Serve) -> None:
    starts = [b"", b"GET / HTTP/1.1\r\nX-Slow: ", POST + b"Content-Length: 5000\r\n\r\nhalf"]
    with serve(**SHORT) as (_, address, server), contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connected(address)) for _ in range(200)]
        for number, connection in enumerate(slow):
            connection.sendall(starts[number % 3])
        with httpx.Client(base_url=f"http://{address[0]}:{address[1]}") as quiet:
            assert [quiet.get("/").text for _ in range(20)] == ["ok"] * 20
        answers = [rest_of(connection) for connection in slow]  # ends only when the server has closed them
        assert len(server.server_state.connections) <= 1  # the quiet client's

    late = [problem_in(answer) for answer in answers if answer]
    assert len(late) >= 130  # those that sent nothing get no answer
    assert {(status, problem["code"]) for status, problem in late} == {(408, "request_timeout")}
    assert all("Fix: " in problem["detail"] for _, problem in late)


def test_a_head_that_drips_is_closed_at_the_same_deadline(serve: Serve) -> None:
    with serve(**SHORT) as (app, address, _), connected(address) as connection:
        dripped = 0
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
            connection.settimeout(0.02)
            for dripped in range(10_000):  # noqa: B007
                connection.sendall(b"a")
                with contextlib.suppress(TimeoutError):
                    if connection.recv(100):
                        break

    assert dripped < 1000
    assert app.heads == []


def test_a_long_body_that_keeps_its_pace_is_read_whole(serve: Serve) -> None:
    """It takes twice the deadline, and each byte in time."""
    with serve(**SHORT, min_bytes_per_s=10_000) as (app, address, _), connected(address) as connection:
        connection.sendall(POST + b"Content-Length: 40000\r\n\r\n")
        for _ in range(40):
            connection.sendall(b"a" * 1000)
            time.sleep(0.01)  # the pace of the client, not a wait for the server
        assert connection.recv(100).startswith(b"HTTP/1.1 200")

    assert app.received == 40_000


def test_a_client_that_does_not_read_its_response_is_closed(serve: Serve, until: Until) -> None:
    with serve(**SHORT) as (_, address, server), connected(address) as connection:
        connection.sendall(b"GET /big HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        until(lambda: server.server_state.total_requests == 1)
        until(lambda: not server.server_state.connections)
        assert len(rest_of(connection)) < 2**25


def test_a_response_that_takes_long_is_waited_for(serve: Serve, until: Until) -> None:
    """No deadline of the transport counts while the client waits for the server."""
    with serve(**SHORT, keep_alive_s=0.2) as (app, address, server), connected(address) as connection:
        connection.sendall(b"GET /wait HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        with connected(address) as other:
            assert rest_of(other) == b""  # a deadline has passed
        app.release.set()
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert rest_of(connection) is not None  # closed once it is idle
        until(lambda: not server.server_state.connections)


def test_beyond_the_limit_a_new_connection_takes_the_place_of_the_one_that_was_silent_for_longest(
    serve: Serve,
) -> None:
    with serve(max_connections=3) as (_, address, server), contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connected(address)) for _ in range(3)]
        silent[1].sendall(GET)  # has spoken last, so it stays
        assert silent[1].recv(100).startswith(b"HTTP/1.1 200")
        for _ in range(2):
            connection = stack.enter_context(connected(address))
            connection.sendall(GET)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert [rest_of(connection) for connection in (silent[0], silent[2])] == [b"", b""]
        silent[1].sendall(GET)
        assert silent[1].recv(100).startswith(b"HTTP/1.1 200")
        assert len(server.server_state.connections) == 3


def test_if_every_connection_is_at_work_a_new_one_is_told_when_to_come_back(serve: Serve, until: Until) -> None:
    with serve(max_connections=2) as (app, address, _), contextlib.ExitStack() as stack:
        busy = [stack.enter_context(connected(address)) for _ in range(2)]
        for connection in busy:
            connection.sendall(b"GET /wait HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        until(lambda: len(app.heads) == 2)
        refused = httpx.get(f"http://{address[0]}:{address[1]}/")
        app.release.set()
        assert [connection.recv(100)[:12] for connection in busy] == [b"HTTP/1.1 200"] * 2

    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert app.refusals == [("overloaded", 503)]
    assert refused.headers["Retry-After"] == "1"
    assert refused.headers["Content-Type"] == "application/problem+json"


def test_a_request_that_outlives_the_drain_is_answered_503_and_not_500(serve: Serve, until: Until) -> None:
    with serve(drain_s=0) as (app, address, server), connected(address) as connection:
        connection.sendall(b"GET /wait HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        until(lambda: app.heads == ["/wait"])
        server.should_exit = True
        answer = rest_of(connection)

    status, problem = problem_in(answer)
    assert (status, problem["code"], problem["retry_after_s"]) == (503, "draining", 5)
    assert app.refusals == [("draining", 503)]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"POST /v2/models/a/infer HTTP/1.1\r\nX-Slow: ", "request_timeout"),
        (b"POST /v2/models/a/infer HTTP/1.1\r\nX-Long: " + b"a" * 32_768, "headers_too_large"),
        (b"GET /v2/" + b"a" * 32_768, "uri_too_long"),
    ],
)
def test_a_refusal_under_v2_has_the_error_that_its_clients_read(serve: Serve, sent: bytes, code: str) -> None:
    with serve(**SHORT) as (_, address, _), connected(address) as connection:
        connection.sendall(sent)
        assert problem_in(rest_of(connection))[1]["error"].startswith(f"{code}: ")


def test_without_a_free_file_number_the_server_waits_and_goes_on_when_there_is_one(serve: Serve) -> None:
    """Accepting fails then, and asyncio tries again after a second."""
    with serve() as (_, address, _), contextlib.ExitStack() as stack:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (with_free_numbers(20), before[1]))
        waiting = []
        with contextlib.suppress(OSError):
            for _ in range(64):
                waiting.append(stack.enter_context(connected(address)))
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert len(waiting) < 64
        assert httpx.get(f"http://{address[0]}:{address[1]}/", timeout=60).text == "ok"


def with_free_numbers(count: int) -> int:
    """The limit below which this many file numbers are free."""
    taken = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    free = (number for number in itertools.count() if number not in taken)
    return list(itertools.islice(free, count))[-1] + 1
