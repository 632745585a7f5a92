"""Two servers on one state are restarted one after the other under load, as Kubernetes does it: no request fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakePng, Until
    from tests.service.known_machine import KnownMachine

SERVE = [sys.executable, "-m", "lensmount_client", "serve", "--log-format", "json", "--port", "0", "--no-zoo"]
SMALL = ["--backbone", "test_resnet", "--weights", "random:0", "--executor", "eager"]
CLIENTS = 2


class Running:
    """A server process that is ready; `url` is its address."""

    def __init__(self, state: Path, log: Path) -> None:
        self._log = log.open("wb")
        command = [*SERVE, *SMALL, "--state", str(state)]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=self._log, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if (entry := json.loads(line))["event"] == "serving":
                self.url: str = entry["url"]
                break
        self._reader = threading.Thread(target=self.process.stderr.read)  # a full pipe would stop the server
        self._reader.start()

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        except httpx.TransportError:  # it does not listen yet
            return False

    def stop(self) -> int:
        """SIGTERM, and the exit status after the drain."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()
        self._log.close()


class Balancer:
    """Gives requests to the servers in turn, to those alone that are ready and not about to stop."""

    def __init__(self) -> None:
        self._servers: list[str] = []
        self._turn = count()

    def add(self, url: str) -> None:
        self._servers = [*self._servers, url]

    def remove(self, url: str) -> None:
        self._servers = [each for each in self._servers if each != url]

    def next(self) -> str:
        servers = self._servers
        return servers[next(self._turn) % len(servers)]


@contextmanager
def asked(balancer: Balancer, path: str, image: bytes) -> Iterator[list[tuple[int, str]]]:
    """The status and server of each answer, while clients ask without a pause."""
    answers: list[tuple[int, str]] = []
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            while not over.is_set():
                url = balancer.next()
                try:
                    answers.append((client.post(url + path, content=image).status_code, url))
                except httpx.TransportError as error:
                    answers.append((0, f"{url}: {error!r}"))

    clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield answers
    finally:
        over.set()
        for client in clients:
            client.join()


def has_answered(answers: list[tuple[int, str]], url: str) -> bool:
    return any(found == url for _, found in answers)


def has_at_least(answers: list[tuple[int, str]], count: int) -> bool:
    return len(answers) >= count


def test_a_rolling_restart_under_load_fails_no_request(
    machine: KnownMachine, tmp_path: Path, make_adapter: MakeAdapter, make_png: MakePng, until: Until
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    machine.prepare(state)
    balancer = Balancer()
    with ExitStack() as stack:

        def started(name: str) -> Running:
            server = Running(state, tmp_path / name)
            stack.callback(server.close)
            until(server.is_ready, 120)
            return server

        old = [started("old-0")]
        httpx.put(f"{old[0].url}/adapters/cells", content=make_adapter(1), timeout=120).raise_for_status()
        old.append(started("old-1"))
        for server in old:
            balancer.add(server.url)
        with asked(balancer, "/predict?adapter=cells", make_png(0)) as answers:
            for number, server in enumerate(old):
                new = started(f"new-{number}")  # a new one is ready before an old one goes
                balancer.add(new.url)
                until(partial(has_answered, answers, new.url), 120)
                balancer.remove(server.url)  # preStop: it still answers, and nobody is sent to it any more
                before = len(answers)
                until(partial(has_at_least, answers, before + 2 * CLIENTS), 120)
                assert server.stop() == 0
                before = len(answers)
                until(partial(has_at_least, answers, before + 20), 120)
    assert Counter(status for status, _ in answers) == {200: len(answers)}, [each for each in answers if each[0] != 200]
    assert len({url for _, url in answers}) == 4
