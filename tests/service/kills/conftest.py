"""Real servers and workers to kill: the real uvicorn, the real worker loop, a tiny backbone."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import httpx
import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr

from lensmount_service.settings import Settings

if TYPE_CHECKING:
    from tests.service.known_machine import KnownMachine

BACKBONE = "test_resnet"
NURSERY = Path(__file__).with_name("nursery.py")
LEASE_S = 2.0
JOB = {
    "dataset": "cells",
    "method": "norm",
    "epochs": 4,
    "size": 32,
    "batch_size": 8,
    "learning_rate": 0.02,
    "average": 0.5,
    "max_attempts": 10,
}


class Forks:
    """The process of nursery.py."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, str(NURSERY), BACKBONE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        assert json.loads(self._out.readline()) == {"ready": True}

    def do(self, **command: object) -> Any:
        with self._lock:
            self._in.write(json.dumps(command) + "\n")
            self._in.flush()
            return json.loads(self._out.readline())

    def end(self) -> None:
        self._process.kill()  # its children die with it
        self._process.wait()
        self._in.close()
        self._out.close()


class Nursery:
    """Starts, signals and awaits servers and workers on one state folder and one port."""

    lease_s = LEASE_S
    executor = "eager"  # a server compiles nothing at its start, which these tests repeat
    environment: ClassVar[dict[str, str]] = {}  # of each process, besides that of these tests

    def __init__(self, forks: Forks, state: Path, database: str | None = None, blobs: str | None = None) -> None:
        self.state = state
        self.settings = Settings(
            state=state,
            zoo=False,
            database=SecretStr(database) if database else None,
            blobs=SecretStr(blobs) if blobs else None,
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=60)  # a loaded machine answers late
        self._forks = forks
        self._alive: set[int] = set()
        self._common = {"state": str(state), "log_level": "info"}
        if database is not None:
            self._common["database"] = database
        self._blobs = {} if blobs is None else {"blobs": blobs}

    def server(self) -> int:
        values = {
            **self._common,
            **self._blobs,
            "lease_s": self.lease_s,
            "port": self.port,
            "zoo": False,
            "threads": 1,
            "executor": self.executor,
            "drain_timeout_s": 2,
        }
        return self._start("server", values)

    def worker(self) -> int:
        values = {"lease_s": self.lease_s, "server": self.url, "threads": 1, "poll_s": 0.05, "nice": 0}
        return self._start("worker", {**self._common, **values})

    def signal(self, pid: int, number: int) -> None:
        self._forks.do(do="signal", pid=pid, number=int(number))

    def kill(self, pid: int) -> None:
        self.signal(pid, signal.SIGKILL)
        assert self.wait(pid, 10) == -signal.SIGKILL

    def wait(self, pid: int, seconds: float) -> int | None:
        code = self._forks.do(do="wait", pid=pid, seconds=seconds)["code"]
        if code is not None:
            self._alive.discard(pid)
        return cast(int | None, code)

    def end(self) -> None:
        for pid in sorted(self._alive):
            self.signal(pid, signal.SIGKILL)
            self.wait(pid, 10)
        self.http.close()

    def log(self) -> str:
        return "".join(path.read_text()[-4000:] for path in sorted(self.state.glob("*.log")))

    # What a client asks of the server, again and again while it is away

    def push(self, name: str = "cells", seed: int = 0) -> httpx.Response:
        """Upload a dataset of small images, blue and red."""
        headers = {"Content-Type": "application/zip"}
        return insist(lambda: self.http.put(f"/datasets/{name}", content=archive(seed), headers=headers))

    def submit(self, key: str | None = None, **changes: Any) -> Any:
        """Submit a job of about a second, with these fields changed, and return its id."""
        headers = {"Idempotency-Key": key} if key else {}
        return insist(lambda: self.http.post("/jobs", json={**JOB, **changes}, headers=headers)).json()["id"]

    def job(self, job_id: str) -> Any:
        return insist(lambda: self.http.get(f"/jobs/{job_id}")).json()

    def waiting(self) -> int:
        """How many jobs are queued or running."""
        listed = insist(lambda: self.http.get("/jobs?limit=50")).json()["jobs"]
        return sum(found["state"] in ("queued", "running") for found in listed)

    def wait_for(self, job_id: str, holds: Callable[[Any], bool], seconds: float = 60) -> Any:
        """Ask for the job until `holds(job)` is true; fails after `seconds`."""
        end = time.monotonic() + seconds
        while not holds(found := self.job(job_id)):
            assert time.monotonic() < end, f"{found}\n{self.log()}"
            time.sleep(0.05)
        return found

    def image(self) -> bytes:
        """One image of the dataset of seed 0."""
        return zipfile.ZipFile(io.BytesIO(archive())).read("red/0.png")

    def _start(self, kind: str, settings: dict[str, object]) -> int:
        log = str(self.state / f"{kind}.log")
        command = {"do": "start", "kind": kind, "settings": settings, "log": log, "environment": self.environment}
        pid: int = self._forks.do(**command)["pid"]
        self._alive.add(pid)
        return pid


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.end()


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str | None:
    """None for SQLite in the state folder, or the URL of a fresh PostgreSQL database."""
    return request.getfixturevalue("postgresql")() if request.param == "postgresql" else None


@pytest.fixture
def nursery(machine: KnownMachine, forks: Forks, tmp_path: Path, database: str | None) -> Iterator[Nursery]:
    if database is None:
        machine.prepare(tmp_path)
    nursery = Nursery(forks, tmp_path, database)
    yield nursery
    nursery.end()


def insist(
    ask: Callable[[], httpx.Response], accept: Collection[int] = (200, 201), seconds: float = 120
) -> httpx.Response:
    """Repeat `ask()` until its response has an accepted status, as a client with retries does."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.TransportError):
            response = ask()
            if response.status_code in accept:
                return response
            assert response.status_code in (429, 503), response.text
        assert time.monotonic() < end, "no answer in time"
        time.sleep(0.02)


def archive(seed: int = 0, images: int = 12) -> bytes:
    """Two classes of small images, blue and red."""
    buffer = io.BytesIO()
    draw = np.random.default_rng(seed)
    with zipfile.ZipFile(buffer, "w") as file:
        for label, colour in (("blue", (0, 0, 120)), ("red", (120, 0, 0))):
            for number in range(images):
                pixels = draw.integers(0, 120, (32, 32, 3), dtype=np.uint8) + np.array(colour, dtype=np.uint8)
                image = io.BytesIO()
                Image.fromarray(pixels).save(image, "PNG")
                file.writestr(f"{label}/{number}.png", image.getvalue())
    return buffer.getvalue()
