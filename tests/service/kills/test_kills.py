"""Nothing is lost: servers and workers are killed at random moments, and everything acknowledged is still there.

The servers and workers are real processes: the real uvicorn, the real worker loop, a tiny backbone. The full-length run
is `pytest -m soak tests/service/kills`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image
from pydantic import SecretStr

from lensmount_service.errors import Unavailable
from lensmount_service.jobs.records import ENDED
from lensmount_service.jobs.schema import event_table, job_table, publication_table
from lensmount_service.jobs.table import JobTable
from lensmount_service.maintenance import collect_garbage
from lensmount_service.settings import Settings
from lensmount_service.store.database import Database
from lensmount_service.store.registry import Registry

if TYPE_CHECKING:
    from tests.service.conftest import Until

BACKBONE = "test_resnet"
NURSERY = Path(__file__).with_name("nursery.py")
LEASE_S = 2.0
BETWEEN_S = 1.2  # seconds between two kills on average; a job takes about 1 s
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

    def __init__(self, forks: Forks, state: Path, database: str | None = None) -> None:
        self.state = state
        self.settings = Settings(state=state, zoo=False, database=SecretStr(database) if database else None)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, trust_env=False)
        self._forks = forks
        self._alive: set[int] = set()
        self._common = {"state": str(state), "log_level": "info"}
        if database is not None:
            self._common["database"] = database

    def server(self) -> int:
        values = {
            **self._common,
            "lease_s": self.lease_s,
            "port": self.port,
            "zoo": False,
            "threads": 1,
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

    def _start(self, kind: str, settings: dict[str, object]) -> int:
        log = str(self.state / f"{kind}.log")
        pid: int = self._forks.do(do="start", kind=kind, settings=settings, log=log)["pid"]
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
def nursery(forks: Forks, tmp_path: Path, database: str | None) -> Iterator[Nursery]:
    nursery = Nursery(forks, tmp_path, database)
    yield nursery
    nursery.end()


both = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


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


def push(nursery: Nursery, name: str = "cells", seed: int = 0) -> httpx.Response:
    headers = {"Content-Type": "application/zip"}
    return insist(lambda: nursery.http.put(f"/datasets/{name}", content=archive(seed), headers=headers))


def submit(nursery: Nursery, key: str | None = None, **changes: Any) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return insist(lambda: nursery.http.post("/jobs", json={**JOB, **changes}, headers=headers)).json()["id"]


def job(nursery: Nursery, job_id: str) -> Any:
    return insist(lambda: nursery.http.get(f"/jobs/{job_id}")).json()


def wait_for(nursery: Nursery, job_id: str, holds: Callable[[Any], bool], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not holds(found := job(nursery, job_id)):
        assert time.monotonic() < end, f"{found}\n{nursery.log()}"
        time.sleep(0.05)
    return found


def has_epochs(least: int) -> Callable[[Any], bool]:
    return lambda found: len(found["history"]) >= least


def ended(found: Any) -> bool:
    return found["state"] in ENDED


class Killing:
    """Kills workers and servers in random order at random moments, and restarts each at once."""

    def __init__(self, nursery: Nursery, workers: int, server_kills: int, worker_kills: int, seed: int) -> None:
        self.nursery = nursery
        self.rng = random.Random(seed)
        self.server = nursery.server()
        self.workers = [nursery.worker() for _ in range(workers)]
        self.left = ["server"] * server_kills + ["worker"] * worker_kills
        self.rng.shuffle(self.left)

    def run(self) -> None:
        while self.left:
            time.sleep(self.rng.expovariate(1 / BETWEEN_S))
            if self.left.pop() == "server":
                self.nursery.kill(self.server)
                self.server = self.nursery.server()
            else:
                index = self.rng.randrange(len(self.workers))
                self.nursery.kill(self.workers[index])
                self.workers[index] = self.nursery.worker()


def survive(nursery: Nursery, workers: int, server_kills: int, worker_kills: int, seed: int = 0) -> dict[str, int]:
    """Kill while clients submit jobs and upload datasets and adapters; then check everything."""
    started = time.monotonic()
    nursery.lease_s = 1.0
    killing = Killing(nursery, workers, server_kills, worker_kills, seed)
    push(nursery)
    killer = threading.Thread(target=killing.run)
    killer.start()
    acknowledged: list[str] = []
    number = 0
    while killer.is_alive():
        alias = "prod" if number % 3 == 0 else None
        acknowledged.append(submit(nursery, f"key-{number}", adapter=f"task-{number % 4}", alias=alias, seed=number))
        number += 1
        if number % 5 == 0:
            push(nursery, f"other-{number % 2}", seed=number)
        while killer.is_alive() and waiting(nursery) >= 2 * workers:
            time.sleep(0.05)
    killer.join()
    jobs = {job_id: wait_for(nursery, job_id, ended, 300) for job_id in acknowledged}
    counts = check(nursery, jobs)
    for pid in killing.workers:
        nursery.signal(pid, signal.SIGTERM)
        assert nursery.wait(pid, 10) == 0, nursery.log()
    nursery.signal(killing.server, signal.SIGTERM)
    assert nursery.wait(killing.server, 20) == 0, nursery.log()
    check_no_orphans(nursery)
    counts |= {"datasets": number // 5, "server kills": server_kills, "worker kills": worker_kills}
    return counts | {"seconds": round(time.monotonic() - started)}


def waiting(nursery: Nursery) -> int:
    listed = insist(lambda: nursery.http.get("/jobs?limit=50")).json()["jobs"]
    return sum(found["state"] in ("queued", "running") for found in listed)


def check(nursery: Nursery, jobs: dict[str, Any]) -> dict[str, int]:
    """Every job has ended, none is published twice, and each adapter is complete and answers."""
    codes = Counter(found["error"]["code"] for found in jobs.values() if found["error"])
    assert codes.keys() <= {"worker_lost"}, f"{codes}\n{nursery.log()}"
    published = {found["id"]: found["result"]["adapter"] for found in jobs.values() if published_by(found)}
    versions = {(adapter["name"], adapter["version"]) for adapter in published.values()}
    assert len(versions) == len(published), "two jobs published one version"
    with contextlib.closing(Database(nursery.settings.database_url())) as database:
        with database.read() as connection:
            rows = connection.execute(sa.select(publication_table)).all()
            events = connection.execute(
                sa.select(event_table).order_by(event_table.c.job_id, event_table.c.number)
            ).all()
        assert {row.job_id: (row.name, row.version) for row in rows} == {
            job_id: (adapter["name"], adapter["version"]) for job_id, adapter in published.items()
        }
        entries = Registry(database).entries()
    assert {(v.name, v.version) for entry in entries for v in entry.versions} == versions
    for entry in entries:
        assert [v.version for v in entry.versions] == list(range(1, len(entry.versions) + 1))
        for version in entry.versions:
            file = nursery.http.get(f"/adapters/{version.name}/file?version={version.version}")
            assert f"sha256:{hashlib.sha256(file.content).hexdigest()}" == version.digest
        image = zipfile.ZipFile(io.BytesIO(archive())).read("red/0.png")
        assert nursery.http.post(f"/predict?adapter={entry.latest.name}", content=image).status_code == 200
    for job_id, found in jobs.items():
        of_job = [event for event in events if event.job_id == job_id]
        assert [event.number for event in of_job] == list(range(1, len(of_job) + 1))
        ends = [event.data["state"] for event in of_job if event.kind == "state" and event.data["state"] in ENDED]
        assert ends == [found["state"]]
    return {
        "jobs": len(jobs),
        **Counter(found["state"] for found in jobs.values()),
        "published": len(published),
        "with more than one attempt": sum(found["attempt"] > 1 for found in jobs.values()),
        "resumed": sum(event.data.get("message", "").startswith("resuming") for event in events),
    }


def published_by(found: Any) -> bool:
    return found["result"] is not None and found["result"]["published"]


def check_no_orphans(nursery: Nursery) -> None:
    """After `lensmount gc`, there is a database row for every file."""
    if not nursery.settings.database:
        with sqlite3.connect(nursery.state / "registry.sqlite3") as file:
            assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        file.close()
    collect_garbage(nursery.settings, 0)
    with contextlib.closing(Database(nursery.settings.database_url())) as database:
        states = JobTable(database).ids()
        blobs = {digest.removeprefix("sha256:") for digest in Registry(database).digests()}
        with database.read() as connection:
            datasets = {digest.removeprefix("sha256:") for digest in connection.execute(DATASETS).scalars()}
    state = nursery.state
    assert {path.name for path in (state / "blobs").iterdir()} == blobs
    assert {path.stem for path in (state / "datasets").iterdir() if path.is_file()} == datasets
    assert [path for path in (state / "datasets").glob("uploads/**/*") if path.is_file()] == []
    assert {path.name for path in (state / "jobs").iterdir()} <= states.keys()
    assert list((state / "jobs").glob("*/.*")) == []
    assert {path.parent.name for path in (state / "jobs").glob("*/checkpoint")} <= {
        job_id for job_id, found in states.items() if found != "succeeded"
    }
    assert list((state / "worker" / "jobs").iterdir()) == []


DATASETS = sa.text("SELECT digest FROM datasets WHERE NOT deleted")


@both
def test_nothing_is_lost_when_workers_and_servers_are_killed(nursery: Nursery, database: str | None) -> None:
    counts = survive(nursery, workers=3 if database else 1, server_kills=5, worker_kills=10)
    assert counts["succeeded"] >= 1


@both
@pytest.mark.soak
def test_nothing_is_lost_in_two_hundred_kills_of_workers_and_a_hundred_of_servers(
    nursery: Nursery, database: str | None
) -> None:
    counts = survive(nursery, workers=3 if database else 1, server_kills=100, worker_kills=200)
    print(counts)  # noqa: T201  # the figures of the run, shown under -s
    assert counts["succeeded"] >= 50


def stop_between_transactions(nursery: Nursery, pid: int) -> None:
    """Stop the process outside a transaction: inside, it would hold SQLite's lock, and nobody could claim its job."""
    database = Database(nursery.settings.database_url())
    try:
        while True:
            nursery.signal(pid, signal.SIGSTOP)
            try:
                with database.write():
                    return
            except Unavailable:
                nursery.signal(pid, signal.SIGCONT)
    finally:
        database.close()


@both
def test_a_zombie_publishes_nothing_and_continues_with_other_jobs(nursery: Nursery) -> None:
    server, zombie = nursery.server(), nursery.worker()
    assert server
    push(nursery)
    job_id = submit(nursery, adapter="cells", epochs=20)
    wait_for(nursery, job_id, lambda found: len(found["history"]) >= 2)
    stop_between_transactions(nursery, zombie)
    heir = nursery.worker()
    taken = wait_for(nursery, job_id, lambda found: found["attempt"] == 2)
    assert taken["state"] == "running"
    nursery.signal(zombie, signal.SIGCONT)
    found = wait_for(nursery, job_id, ended)

    assert (found["state"], found["attempt"], found["result"]["adapter"]["version"]) == ("succeeded", 2, 1)
    assert [epoch["epoch"] for epoch in found["history"]] == list(range(1, 21))
    nursery.kill(heir)
    again = wait_for(nursery, submit(nursery, adapter="cells", force=True), ended)
    assert (again["state"], again["result"]["adapter"]["version"]) == ("succeeded", 2)


@both
def test_sigterm_gives_the_job_back_within_five_seconds_and_another_worker_resumes_from_the_last_epoch(
    nursery: Nursery,
) -> None:
    nursery.server()
    first = nursery.worker()
    push(nursery)
    job_id = submit(nursery, adapter="cells", epochs=20, max_attempts=1)
    wait_for(nursery, job_id, lambda found: len(found["history"]) >= 3)

    started = time.monotonic()
    nursery.signal(first, signal.SIGTERM)
    assert nursery.wait(first, 10) == 0, nursery.log()
    assert time.monotonic() - started < 5
    waits = job(nursery, job_id)
    assert (waits["state"], waits["attempt"]) == ("queued", 0)
    epochs = len(waits["history"])

    nursery.worker()
    found = wait_for(nursery, job_id, ended)
    assert (found["state"], found["attempt"]) == ("succeeded", 1)
    log = nursery.http.get(f"/jobs/{job_id}/log").text
    assert "resuming from the checkpoint" in log
    assert log.count("epoch ") - 20 <= 1  # an epoch whose checkpoint was not sent yet is repeated
    assert epochs >= 3


@sqlite
def test_a_resumed_job_makes_the_same_adapter_as_an_undisturbed_one(nursery: Nursery) -> None:
    nursery.server()
    push(nursery)
    worker = nursery.worker()
    calm = wait_for(nursery, submit(nursery, adapter="calm", epochs=16, precision="fp32"), ended)
    disturbed = submit(nursery, adapter="disturbed", epochs=16, precision="fp32")
    for epochs in (3, 8):
        wait_for(nursery, disturbed, has_epochs(epochs))
        nursery.kill(worker)
        worker = nursery.worker()
    found = wait_for(nursery, disturbed, ended)

    assert found["attempt"] == 3
    figures = [[(e["loss"], e["validation_loss"]) for e in one["history"]] for one in (calm, found)]
    assert figures[0] == figures[1]
    assert found["result"]["metrics"] == calm["result"]["metrics"]


@sqlite
def test_a_worker_outlasts_a_server_that_is_away(nursery: Nursery, until: Until) -> None:
    server = nursery.server()
    nursery.worker()
    push(nursery)
    job_id = submit(nursery, adapter="cells", epochs=20)
    wait_for(nursery, job_id, lambda found: len(found["history"]) >= 2)
    nursery.kill(server)
    killed_at = time.time()
    until(lambda: lease_until(nursery, job_id) > killed_at + 3 * LEASE_S)  # renewed two leases after the kill or later
    nursery.server()
    found = wait_for(nursery, job_id, ended)
    assert (found["state"], found["attempt"]) == ("succeeded", 1)


def lease_until(nursery: Nursery, job_id: str) -> float:
    """When the job's lease expires, in seconds since the epoch, read while there is no server."""
    with contextlib.closing(Database(nursery.settings.database_url())) as database, database.read() as connection:
        query = sa.select(job_table.c.lease_until).where(job_table.c.id == job_id)
        return float(connection.execute(query).scalar_one())


@sqlite
def test_a_running_job_is_cancelled_at_its_next_step(nursery: Nursery) -> None:
    nursery.server()
    nursery.worker()
    push(nursery)
    job_id = submit(nursery, adapter="cells", epochs=900)
    wait_for(nursery, job_id, lambda found: len(found["history"]) >= 1)
    assert nursery.http.delete(f"/jobs/{job_id}").status_code == 202
    found = wait_for(nursery, job_id, ended, 10)
    assert (found["state"], found["result"]) == ("cancelled", None)
    assert nursery.http.get("/adapters").json() == {"adapters": []}


@sqlite
def test_a_server_gives_bit_exact_answers_while_a_job_trains_and_publishes(nursery: Nursery, until: Until) -> None:
    nursery.server()
    nursery.worker()
    push(nursery)
    wait_for(nursery, submit(nursery, adapter="cells"), ended)
    image = zipfile.ZipFile(io.BytesIO(archive())).read("red/0.png")

    def ask() -> tuple[str, str]:
        response = nursery.http.post("/predict?adapter=cells@1", content=image).json()
        return str(response["predictions"]), response["adapter"]["digest"]

    joins = nursery.http.get("/limits").json()["engine"]["executor"] == "openvino"

    def is_settled() -> (
        bool
    ):  # each way of computing has its own last bits; wait for the last one that the server switches to
        ask()
        if joins:
            return 'lensmount_images_total{mode="whole"}' in nursery.http.get("/metrics").text
        return bool(nursery.http.get("/adapters/cells").json()["tier"] == "hot")

    until(is_settled, 60)
    answers = []
    job_id = submit(nursery, adapter="cells", alias="prod", seed=1, force=True, epochs=8)
    while not ended(found := job(nursery, job_id)):
        answers.append(ask())
    assert (found["result"]["published"], found["result"]["adapter"]["version"]) == (True, 2)
    assert len(answers) > 5
    assert len(set(answers)) == 1
    assert nursery.http.get("/integrity").json()["ok"]
