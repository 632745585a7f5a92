"""Nothing is lost: servers and workers are killed at random moments, and everything acknowledged is still there.

Nothing is left of a client that goes away either.

The full-length run is `pytest -m soak tests/service/kills`.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import random
import signal
import socket
import sqlite3
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import sqlalchemy as sa

from lensmount_adapters import load_backbone
from lensmount_service.jobs.records import ENDED
from lensmount_service.jobs.schema import event_table, publication_table
from lensmount_service.jobs.table import JobTable
from lensmount_service.maintenance import collect_garbage
from lensmount_service.store.database import Database
from lensmount_service.store.registry import Registry

if TYPE_CHECKING:
    from tests.conftest import DrawAdapter
    from tests.service.conftest import MakePng, Until
    from tests.service.kills.conftest import Nursery

BACKBONE = "test_resnet"  # that of nursery.py
BETWEEN_S = 1.2  # seconds between two kills on average; a job takes about 1 s

both = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


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
    nursery.push()
    killer = threading.Thread(target=killing.run)
    killer.start()
    acknowledged: list[str] = []
    number = 0
    while killer.is_alive():
        alias = "prod" if number % 3 == 0 else None
        acknowledged.append(nursery.submit(f"key-{number}", adapter=f"task-{number % 4}", alias=alias, seed=number))
        number += 1
        if number % 5 == 0:
            nursery.push(f"other-{number % 2}", seed=number)
        while killer.is_alive() and nursery.waiting() >= 2 * workers:
            time.sleep(0.05)
    killer.join()
    jobs = {job_id: nursery.wait_for(job_id, ended, 300) for job_id in acknowledged}
    counts = check(nursery, jobs)
    for pid in killing.workers:
        nursery.signal(pid, signal.SIGTERM)
        assert nursery.wait(pid, 10) == 0, nursery.log()
    nursery.signal(killing.server, signal.SIGTERM)
    assert nursery.wait(killing.server, 20) == 0, nursery.log()
    check_no_orphans(nursery)
    counts |= {"datasets": number // 5, "server kills": server_kills, "worker kills": worker_kills}
    return counts | {"seconds": round(time.monotonic() - started)}


def ended(found: Any) -> bool:
    return found["state"] in ENDED


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
        entries = [entry for entry in Registry(database).entries() if entry.latest.name.startswith("task-")]
    assert {(v.name, v.version) for entry in entries for v in entry.versions} == versions
    for entry in entries:
        assert [v.version for v in entry.versions] == list(range(1, len(entry.versions) + 1))
        for version in entry.versions:
            file = nursery.http.get(f"/adapters/{version.name}/file?version={version.version}")
            assert f"sha256:{hashlib.sha256(file.content).hexdigest()}" == version.digest
        image = nursery.image()
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
    counts = survive(nursery, workers=3 if database else 1, server_kills=4, worker_kills=7)
    assert counts["succeeded"] >= 1


@both
@pytest.mark.soak
def test_nothing_is_lost_in_two_hundred_kills_of_workers_and_a_hundred_of_servers(
    nursery: Nursery, database: str | None
) -> None:
    counts = survive(nursery, workers=3 if database else 1, server_kills=100, worker_kills=200)
    print(counts)  # noqa: T201  # the figures of the run, shown under -s
    assert counts["succeeded"] >= 50


@sqlite
def test_acknowledged_uploads_survive_kill_9(nursery: Nursery, draw_adapter: DrawAdapter, until: Until) -> None:
    backbone = load_backbone(BACKBONE, "random:0")
    acknowledged: dict[str, str] = {}
    for round_ in range(2):
        pid = nursery.server()
        until(lambda: answers(nursery))
        listed = {a["name"]: a["digest"] for a in nursery.http.get("/adapters").json()["adapters"]}
        assert acknowledged.items() <= listed.items()
        enough = threading.Event()

        def kill(pid: int = pid, enough: threading.Event = enough) -> None:
            enough.wait(300)  # an upload is then in progress
            nursery.kill(pid)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            for number in range(1000):
                name, data = f"task-{round_}-{number}", draw_adapter(backbone, seed=round_ * 1000 + number).dump()
                if number == 5:
                    enough.set()
                acknowledged[name] = nursery.http.put(f"/adapters/{name}", content=data).json()["digest"]
        except httpx.TransportError:
            pass
        killer.join()
    nursery.server()
    until(lambda: answers(nursery))
    for name, digest in acknowledged.items():
        assert nursery.http.get(f"/adapters/{name}/file").headers["ETag"] == f'"{digest}"'
    assert len(acknowledged) >= 10


@sqlite
def test_a_slow_client_that_disconnects_leaves_nothing_behind(
    nursery: Nursery, draw_adapter: DrawAdapter, make_png: MakePng, until: Until
) -> None:
    nursery.server()
    until(lambda: answers(nursery))
    data = draw_adapter(load_backbone(BACKBONE, "random:0")).dump()
    nursery.http.put("/adapters/cells", content=data).raise_for_status()
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", nursery.port)) as connection:
            connection.sendall(
                b"POST /predict?adapter=cells HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\nhalf"
            )
    while 'adapter="cells",code="499"} 20.0' not in (metrics := nursery.http.get("/metrics").text):
        assert 'code="500"' not in metrics
    assert nursery.http.post("/predict?adapter=cells", content=make_png()).status_code == 200
    assert 'lensmount_inflight{adapter="cells"} 0.0' in nursery.http.get("/metrics").text


@sqlite
@pytest.mark.parametrize("kills", [1, pytest.param(50, marks=pytest.mark.soak)])
def test_kills_during_predictions_give_no_wrong_answer_and_each_is_answered_in_the_end(
    nursery: Nursery,
    kills: int,
    draw_adapter: DrawAdapter,
    make_png: MakePng,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nursery, "executor", "merged")  # each switch writes into the weights
    backbone = load_backbone(BACKBONE, "random:0")
    image, answered, wrong = make_png(1), 0, []
    stop = threading.Event()

    def ask(name: str) -> list[float] | None:
        with contextlib.suppress(httpx.TransportError):
            answer = nursery.http.post(f"/predict?adapter={name}", content=image)
            if answer.status_code == 200:
                return [found["score"] for found in sorted(answer.json()["predictions"], key=lambda p: str(p["label"]))]
            assert answer.status_code == 503, answer.text
        return None

    def ask_on() -> None:
        nonlocal answered
        for name in itertools.cycle(expected):
            while (scores := ask(name)) is None and not stop.is_set():
                stop.wait(0.01)
            if stop.is_set():
                return
            answered += 1
            if scores != pytest.approx(expected[name], abs=1e-5):
                wrong.append((name, scores))

    pid = nursery.server()
    until(lambda: answers(nursery))
    expected: dict[str, Any] = {}
    for seed, name in enumerate(("cells", "tiles", "slides")):
        nursery.http.put(f"/adapters/{name}", content=draw_adapter(backbone, seed=seed).dump()).raise_for_status()
        expected[name] = ask(name)
    assert None not in expected.values()
    assert expected["cells"] != pytest.approx(expected["tiles"], abs=1e-3)
    thread = threading.Thread(target=ask_on)
    thread.start()
    try:
        for _ in range(kills):
            seen = answered
            until(lambda seen=seen: answered >= seen + 20)  # type: ignore[misc]  # bound now
            nursery.kill(pid)
            pid = nursery.server()
            seen = answered
            until(lambda seen=seen: answered >= seen + 5)  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()

    assert wrong == []
    assert nursery.http.get("/integrity").json()["ok"]


def answers(nursery: Nursery) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return nursery.http.get("/adapters").status_code == 200
    return False
