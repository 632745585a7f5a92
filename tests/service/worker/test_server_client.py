from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lensmount_service.errors import LeaseLost
from lensmount_service.worker.heartbeat import JobCancelled
from lensmount_service.worker.server_client import ServerAway, ServerRefused, open_client

BODY = b"the archive" * 1000
DIGEST = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


Script = list[tuple[int, bytes] | None]
Seen = list[tuple[str, str, bytes]]
Serve = Callable[[Script], tuple[str, Seen]]


class Scripted(BaseHTTPRequestHandler):
    """Answers with the next line of a script: a status and a body, or None for a cut connection."""

    script: Script
    seen: Seen

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.command, self.path, body))
        line = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if line is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, content = line
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = _respond  # noqa: N815  # http.server's names

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve([(200, b"x"), ...])` gives the URL of a server that answers like this, and the requests it has seen."""
    servers = []

    def start(script: Script) -> tuple[str, Seen]:
        seen: Seen = []
        handler = type("Handler", (Scripted,), {"script": list(script), "seen": seen})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}", seen

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def problem(code: str) -> bytes:
    return b'{"code": "%s", "detail": "why"}' % code.encode()


def always_continue() -> None:
    """The job is still ours."""


def test_a_file_is_fetched_completely_and_checked(serve: Serve, tmp_path: Path) -> None:
    url, seen = serve([(200, BODY)])
    with open_client(url, "secret", 5, always_continue) as server:
        server.fetch("/datasets/cells/file", tmp_path / "cells.zip", params={"digest": DIGEST}, digest=DIGEST)
    assert (tmp_path / "cells.zip").read_bytes() == BODY
    assert seen[0][:2] == ("GET", f"/datasets/cells/file?digest={DIGEST.replace(':', '%3A')}")


@pytest.mark.parametrize("first", [None, (503, problem("store_unavailable")), (200, BODY[:-1]), (502, b"<html>")])
def test_a_failure_that_may_pass_is_tried_again(serve: Serve, tmp_path: Path, first: Any) -> None:
    url, seen = serve([first, (200, BODY)])
    with open_client(url, None, 20, always_continue) as server:
        server.fetch("/file", tmp_path / "cells.zip", digest=DIGEST)
    assert len(seen) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.zip"]


def test_a_file_is_sent_again_from_its_beginning(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "card.md").write_bytes(BODY)
    url, seen = serve([None, (503, b""), (204, b"")])
    with open_client(url, None, 20, always_continue) as server:
        assert server.send("/jobs/1/files/card.md", tmp_path / "card.md") == {}
    assert [body for _, _, body in seen] == [BODY] * 3


def test_a_refusal_is_raised_after_one_request_with_its_code(serve: Serve) -> None:
    url, seen = serve([(422, problem("adapter_invalid"))])
    with open_client(url, None, 20, always_continue) as server, pytest.raises(ServerRefused) as refused:
        server.send("/adapters/cells", b"x")
    assert (refused.value.code, str(refused.value), refused.value.status) == ("adapter_invalid", "why", 422)
    assert len(seen) == 1


def test_a_lost_lease_is_its_own_error(serve: Serve) -> None:
    url, _ = serve([(409, problem("lease_lost"))])
    with open_client(url, None, 20, always_continue) as server, pytest.raises(LeaseLost):
        server.send("/adapters/cells", b"x")


def test_a_server_that_stays_away_raises_server_away(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with open_client(url, None, 0.3, always_continue) as server, pytest.raises(ServerAway):
        server.fetch("/file", tmp_path / "x")


def test_waiting_for_a_server_ends_when_the_job_does(tmp_path: Path) -> None:
    calls = iter(range(100))

    def check() -> None:
        if next(calls) > 3:
            raise JobCancelled

    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with open_client(url, None, 60, check) as server, pytest.raises(JobCancelled):
        server.fetch("/file", tmp_path / "x")
