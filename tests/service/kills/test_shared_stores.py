"""Two servers, each with a worker, share PostgreSQL and S3 alone. Whatever is killed, nothing is lost or done twice.

The full-length run is `pytest -m soak tests/service/kills`.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.service.kills.conftest import Forks, Nursery, insist
from tests.service.kills.test_kills import BACKBONE, BETWEEN_S, DATASETS, check, ended
from tests.service.object_store import CREDENTIALS

from lensmount_adapters import load_backbone
from lensmount_service.jobs.table import JobTable
from lensmount_service.maintenance import collect_garbage
from lensmount_service.store.database import Database
from lensmount_service.store.registry import Registry
from lensmount_service.store.remote.objects import Objects

if TYPE_CHECKING:
    from tests.conftest import DrawAdapter


@pytest.fixture
def nurseries(
    forks: Forks, tmp_path: Path, postgresql: Callable[[], str], s3: str, moto: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Nursery]]:
    """One for each server, with a state folder and a port of its own."""
    monkeypatch.setattr(Nursery, "environment", {**CREDENTIALS, "AWS_ENDPOINT_URL": moto})
    monkeypatch.setattr(Nursery, "lease_s", 1.0)
    database = postgresql()
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made.append(Nursery(forks, tmp_path / name, database, s3))
    yield made
    for nursery in made:
        nursery.end()


class Killing:
    """Kills one of the servers and workers at random moments, and restarts it at once."""

    def __init__(self, nurseries: list[Nursery], kills: int, seed: int) -> None:
        self.nurseries = nurseries
        self.draw = random.Random(seed)
        self.kills = kills
        self.alive = {(index, kind): self.start(index, kind) for index in (0, 1) for kind in ("server", "worker")}
        self.done: list[str] = []

    def start(self, index: int, kind: str) -> int:
        nursery = self.nurseries[index]
        return nursery.server() if kind == "server" else nursery.worker()

    def run(self) -> None:
        while len(self.done) < self.kills:
            time.sleep(self.draw.expovariate(1 / BETWEEN_S))
            index, kind = self.draw.choice(sorted(self.alive))
            self.nurseries[index].kill(self.alive[index, kind])
            self.alive[index, kind] = self.start(index, kind)
            self.done.append(kind)

    def end(self) -> None:
        for (index, kind), pid in sorted(self.alive.items(), key=lambda item: item[0][1], reverse=True):
            self.nurseries[index].signal(pid, signal.SIGTERM)
            assert self.nurseries[index].wait(pid, 20) == 0, f"{kind}\n{self.nurseries[index].log()}"


def survive(nurseries: list[Nursery], draw_adapter: DrawAdapter, kills: int, seed: int = 0) -> dict[str, int]:
    """Kill while clients of both servers submit jobs and upload datasets and adapters; then check everything."""
    backbone = load_backbone(BACKBONE, "random:0")
    killing = Killing(nurseries, kills, seed)
    nurseries[0].push()
    killer = threading.Thread(target=killing.run)
    killer.start()
    submitted: list[str] = []
    pushed: dict[str, str] = {}
    number = 0
    while killer.is_alive():
        here, there = nurseries[number % 2], nurseries[1 - number % 2]
        alias = "prod" if number % 3 == 0 else None
        submitted.append(here.submit(f"key-{number}", adapter=f"task-{number % 4}", alias=alias, seed=number))
        name, data = f"pushed-{number}", draw_adapter(backbone, seed=number).dump()
        answer = insist(partial(there.http.put, f"/adapters/{name}", content=data))
        pushed[name] = answer.json()["digest"]
        if number % 3 == 0:
            here.push(f"other-{number % 2}", seed=number)
        number += 1
        while killer.is_alive() and here.waiting() >= 4:
            time.sleep(0.05)
    killer.join()
    for nursery in nurseries:
        jobs = {job: nursery.wait_for(job, ended, 300) for job in submitted}
        counts = check(nursery, jobs)
        for name, digest in pushed.items():
            file = nursery.http.get(f"/adapters/{name}/file")
            assert f"sha256:{hashlib.sha256(file.content).hexdigest()}" == digest == file.headers["ETag"].strip('"')
            assert nursery.http.get(f"/adapters/{name}").json()["versions"] == [1]
        for job in (job for job, found in jobs.items() if found["state"] == "succeeded"):
            assert "card.md" in [file["name"] for file in nursery.http.get(f"/jobs/{job}/files").json()["files"]]
    killing.end()
    check_no_orphans(nurseries[0])
    return counts | {"pushed": len(pushed), **{f"{kind} kills": killing.done.count(kind) for kind in set(killing.done)}}


def check_no_orphans(nursery: Nursery) -> None:
    """After `lensmount gc`, there is a database row for every file of the object store, and a file for every row."""
    assert nursery.settings.blobs is not None
    collect_garbage(nursery.settings, -1)
    objects = Objects(nursery.settings.blobs.get_secret_value())
    with contextlib.closing(Database(nursery.settings.database_url())) as database:
        states = JobTable(database).ids()
        adapters = Registry(database).digests()
        with database.read() as connection:
            datasets = set(connection.execute(DATASETS).scalars())
    assert {f"sha256:{file.key}" for file in objects.listed()} == adapters
    assert {file.key for file in objects.listed("datasets")} == {f"datasets/{each[7:]}.zip" for each in datasets}
    of_jobs = [file.key.split("/") for file in objects.listed("jobs")]
    assert {job for _, job, *_ in of_jobs} <= states.keys()
    assert len({(job, name) for _, job, name, _ in of_jobs}) == len(of_jobs)  # one file of each name
    assert not {job for _, job, name, _ in of_jobs if name == "checkpoint" and states[job] == "succeeded"}


def test_nothing_is_lost_when_servers_and_workers_on_shared_stores_are_killed(
    nurseries: list[Nursery], draw_adapter: DrawAdapter
) -> None:
    counts = survive(nurseries, draw_adapter, kills=6)
    assert counts["succeeded"] >= 1


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_in_twenty_random_kills_on_shared_stores(
    nurseries: list[Nursery], draw_adapter: DrawAdapter, seed: int
) -> None:
    counts = survive(nurseries, draw_adapter, kills=20, seed=seed)
    print(counts)  # noqa: T201  # the figures of the run, shown under -s
    assert counts["succeeded"] >= 5
