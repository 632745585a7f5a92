"""An S3 server that belongs to this test run: moto's, in its own process, started when a test first asks for it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator

import httpx
import pytest

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
    "NO_PROXY": "127.0.0.1",
}

_DIE_WITH_PARENT = """
import ctypes, signal, sys
ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))
from moto.server import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The URL of the S3 server."""
    pytest.importorskip("moto", reason='needs moto: pip install "moto[server]"')
    pytest.importorskip("obstore", reason='needs obstore: pip install "lensmount[s3]"')
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    run = [sys.executable, "-c", _DIE_WITH_PARENT, "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait(30)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 180  # a loaded machine starts it late
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("moto does not start")


@pytest.fixture(scope="session")
def make_bucket(moto: str) -> Callable[[], str]:
    """`make_bucket()` gives the URL of a new, empty bucket with a prefix."""

    def make() -> str:
        name = f"test-{uuid.uuid4().hex}"
        httpx.put(f"{moto}/{name}", trust_env=False, timeout=60).raise_for_status()
        return f"s3://{name}/lensmount"

    return make


@pytest.fixture
def s3(moto: str, make_bucket: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket; the environment has its endpoint and credentials."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": moto}.items():
        monkeypatch.setenv(name, value)
    return make_bucket()
