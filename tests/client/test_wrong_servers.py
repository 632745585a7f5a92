"""The client in front of servers that are not ours, that break, or that fall silent: typed errors, and no files."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from lensmount_client import (
    CannotWrite,
    Client,
    LensmountError,
    ResponseTooLarge,
    ServerUnreachable,
    TimedOut,
    UnexpectedResponse,
)

DIGEST = f"sha256:{'0' * 64}"


def page(status: int = 200) -> httpx.Response:
    content = b"<html><body>Please log in</body></html>"
    return httpx.Response(status, headers={"Content-Type": "text/html"}, content=content)


CALLS: dict[str, Callable[[Client, Path], object]] = {
    "predict": lambda client, folder: client.predict(b"x", "malaria"),
    "segment": lambda client, folder: client.segment(b"x", "malaria"),
    "mask_png": lambda client, folder: client.mask_png(b"x", "malaria"),
    "polygons": lambda client, folder: client.polygons(b"x", "malaria"),
    "explain": lambda client, folder: client.explain(b"x", "malaria"),
    "explanation_png": lambda client, folder: client.explanation_png(b"x", "malaria"),
    "feedback": lambda client, folder: client.feedback(b"x", "malaria", "a", who="me"),
    "health": lambda client, folder: client.health(),
    "limits": lambda client, folder: client.limits(),
    "integrity": lambda client, folder: client.integrity(),
    "whoami": lambda client, folder: client.whoami(),
    "audit": lambda client, folder: client.audit(),
    "adapters.list": lambda client, folder: client.adapters.list(),
    "adapters.get": lambda client, folder: client.adapters.get("malaria"),
    "adapters.pull": lambda client, folder: client.adapters.pull("malaria", folder / "new"),
    "adapters.delete": lambda client, folder: client.adapters.delete("malaria"),
    "adapters.undelete": lambda client, folder: client.adapters.undelete("malaria"),
    "adapters.unalias": lambda client, folder: client.adapters.unalias("malaria", "prod"),
    "adapters.unshare": lambda client, folder: client.adapters.unshare("malaria"),
    "datasets.list": lambda client, folder: client.datasets.list(),
    "datasets.pull": lambda client, folder: client.datasets.pull("cells", folder / "new"),
    "datasets.delete": lambda client, folder: client.datasets.delete("cells"),
    "jobs.list": lambda client, folder: client.jobs.list(),
    "jobs.submit": lambda client, folder: client.jobs.submit("cells", "malaria"),
    "pools.png": lambda client, folder: client.pools.png("cells", DIGEST),
    "rollouts.start": lambda client, folder: client.rollouts.start("malaria", "prod", shadow=9),
    "rollouts.status": lambda client, folder: client.rollouts.status("malaria", "prod"),
    "rollouts.list": lambda client, folder: client.rollouts.list("malaria"),
    "rollouts.promote": lambda client, folder: client.rollouts.promote("malaria", "prod"),
    "tokens.list": lambda client, folder: client.tokens.list(),
    "tokens.create": lambda client, folder: client.tokens.create("a", ["predict"]),
    "tokens.revoke": lambda client, folder: client.tokens.revoke("a"),
}
ANSWERS: dict[str, Callable[[], httpx.Response]] = {
    "a page": page,
    "a page that says it is JSON": lambda: httpx.Response(
        200, headers={"Content-Type": "application/json"}, content=b"<"
    ),
    "a redirect": lambda: httpx.Response(302, headers={"Location": "http://evil.example/"}),
    "a redirect to nothing": lambda: httpx.Response(301),
    "nothing": lambda: httpx.Response(200),
    "a list": lambda: httpx.Response(200, json=[]),
    "a text": lambda: httpx.Response(200, json="ok"),
    "another object": lambda: httpx.Response(200, json={"a": {"b": [1]}}),
    "very deep JSON": lambda: httpx.Response(200, content=b"[" * 100_000),
    "a long number": lambda: httpx.Response(200, content=b"9" * 5000),
    "not UTF-8": lambda: httpx.Response(200, content=b'{"a": "\xff"}'),
    "not modified": lambda: httpx.Response(304),
    "a page of an error": lambda: page(502),
    "an unknown status": lambda: httpx.Response(499, content=b""),
}
ANY = ("polygons", "limits")
"""Calls whose answer may be any object."""


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("call", CALLS)
def test_an_answer_of_another_server_is_a_typed_error_and_leaves_no_file(
    call: str, answer: str, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    transport = httpx.MockTransport(lambda request: ANSWERS[answer]())
    with Client(transport=transport, sleep=lambda seconds: None) as client:
        if answer == "another object" and call in (*ANY, *EMPTY):
            CALLS[call](client, kept)
            return
        with pytest.raises(LensmountError) as caught:
            CALLS[call](client, kept)
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)
    assert list(kept.iterdir()) == []


EMPTY = ("adapters.delete", "adapters.unalias", "adapters.unshare", "datasets.delete", "tokens.revoke")
"""Calls whose answer has nothing to read: any object will do."""


# Connections that break


@contextmanager
def speaking(*answers: bytes, hang: bool = False) -> Iterator[str]:
    """The URL of a server that sends these bytes, one for each connection, and closes or `hang`s."""
    stop = threading.Event()

    def serve() -> None:
        for answer in answers:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                if hang:
                    stop.wait(20)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


OK = b"HTTP/1.1 200 OK\r\n"
BROKEN: dict[str, bytes] = {
    "no answer": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "a head alone": OK + b"Content-Length: 100\r\n\r\n",
    "a body that is cut": OK + b'Content-Length: 100\r\n\r\n{"a": 1',
    "chunks that are cut": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    "a chunk of no size": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bytes": bytes(range(256)),
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_connection_that_breaks_is_a_typed_error_and_the_next_attempt_may_succeed(case: str, tmp_path: Path) -> None:
    document = b'{"max_image_bytes": 7}'
    whole = OK + b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(document)
    with speaking(BROKEN[case]) as url, Client(url, retries=0) as client:
        with pytest.raises(LensmountError):
            client.limits()
    with speaking(BROKEN[case], whole + document) as url, Client(url, retries=1, sleep=lambda seconds: None) as client:
        assert client.limits() == {"max_image_bytes": 7}
    with speaking(BROKEN[case]) as url, Client(url, retries=0) as client:
        with pytest.raises(ServerUnreachable):
            client.adapters.pull("malaria", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("case", ["no answer", "half a head", "a head alone", "a body that is cut"])
def test_a_server_that_falls_silent_is_given_up_after_the_timeout(case: str) -> None:
    with speaking(BROKEN[case], hang=True) as url, Client(url, retries=0, timeout=0.2) as client:
        with pytest.raises(TimedOut, match="Fix: a longer timeout"):
            client.limits()


def test_an_answer_without_end_is_given_up_at_the_limit(tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(2**16)

    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, content=endless(), headers={"ETag": f'"{DIGEST}"'})
    )
    with Client(transport=transport, max_response_bytes=2**20) as client:
        for call in (client.limits, lambda: client.adapters.pull("malaria", tmp_path / "new")):
            with pytest.raises(ResponseTooLarge):
                call()
    assert list(tmp_path.iterdir()) == []


# Files that cannot be written


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def a_socket(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
    return folder / "s"


def below_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "new"


TARGETS: dict[str, Callable[[Path], Path]] = {
    "a pipe": a_pipe,
    "a socket": a_socket,
    "a device": lambda folder: Path("/dev/null"),
    "below a file": below_a_file,
    "no folder": lambda folder: folder / "none" / "new",
    "NUL": lambda folder: folder / "a\0b",
    "a name of 300 bytes": lambda folder: folder / ("n" * 300),
}


@pytest.mark.parametrize("case", TARGETS)
def test_what_is_no_place_for_a_file_is_refused_and_stays_what_it_is(case: str, server: Any, tmp_path: Path) -> None:
    target = TARGETS[case](tmp_path)
    before = sorted((path.name, path.lstat().st_mode) for path in tmp_path.iterdir())
    null = Path("/dev/null").stat().st_rdev

    with Client(server.url) as client, pytest.raises(CannotWrite):
        client.adapters.pull("malaria", target)

    assert sorted((path.name, path.lstat().st_mode) for path in tmp_path.iterdir()) == before
    assert Path("/dev/null").stat().st_rdev == null


def test_an_unexpected_type_of_body_is_refused_by_name() -> None:
    transport = httpx.MockTransport(lambda request: page())
    with (
        Client(transport=transport) as client,
        pytest.raises(UnexpectedResponse, match=r"text/html.*Fix: check base_url"),
    ):
        client.explanation_png(b"x", "malaria")
