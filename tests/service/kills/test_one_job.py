"""One job ends as it should while its worker or server is killed, stopped or away; answers stay the same meanwhile."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from lensmount_service.errors import Unavailable
from lensmount_service.jobs.records import ENDED
from lensmount_service.jobs.schema import job_table
from lensmount_service.store.database import Database

if TYPE_CHECKING:
    from tests.service.conftest import Until
    from tests.service.kills.conftest import Nursery

both = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def ended(found: Any) -> bool:
    return found["state"] in ENDED


def has_epochs(least: int) -> Callable[[Any], bool]:
    return lambda found: len(found["history"]) >= least


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
    nursery.push()
    job_id = nursery.submit(adapter="cells", epochs=20)
    nursery.wait_for(job_id, has_epochs(2))
    stop_between_transactions(nursery, zombie)
    heir = nursery.worker()
    taken = nursery.wait_for(job_id, lambda found: found["attempt"] == 2)
    assert taken["state"] == "running"
    nursery.signal(zombie, signal.SIGCONT)
    found = nursery.wait_for(job_id, ended)

    assert (found["state"], found["attempt"], found["result"]["adapter"]["version"]) == ("succeeded", 2, 1)
    assert [epoch["epoch"] for epoch in found["history"]] == list(range(1, 21))
    nursery.kill(heir)
    again = nursery.wait_for(nursery.submit(adapter="cells", force=True), ended)
    assert (again["state"], again["result"]["adapter"]["version"]) == ("succeeded", 2)


@both
def test_sigterm_gives_the_job_back_within_five_seconds_and_another_worker_resumes_from_the_last_epoch(
    nursery: Nursery,
) -> None:
    nursery.server()
    first = nursery.worker()
    nursery.push()
    job_id = nursery.submit(adapter="cells", epochs=20, max_attempts=1)
    nursery.wait_for(job_id, has_epochs(3))

    started = time.monotonic()
    nursery.signal(first, signal.SIGTERM)
    assert nursery.wait(first, 10) == 0, nursery.log()
    assert time.monotonic() - started < 5
    waits = nursery.job(job_id)
    assert (waits["state"], waits["attempt"]) == ("queued", 0)
    epochs = len(waits["history"])

    nursery.worker()
    found = nursery.wait_for(job_id, ended)
    assert (found["state"], found["attempt"]) == ("succeeded", 1)
    log = nursery.http.get(f"/jobs/{job_id}/log").text
    assert "resuming from the checkpoint" in log
    assert log.count("epoch ") - 20 <= 1  # an epoch whose checkpoint was not sent yet is repeated
    assert epochs >= 3


@sqlite
def test_a_resumed_job_makes_the_same_adapter_as_an_undisturbed_one(nursery: Nursery) -> None:
    nursery.server()
    nursery.push()
    worker = nursery.worker()
    calm = nursery.wait_for(nursery.submit(adapter="calm", epochs=16, precision="fp32"), ended)
    disturbed = nursery.submit(adapter="disturbed", epochs=16, precision="fp32")
    for epochs in (3, 8):
        nursery.wait_for(disturbed, has_epochs(epochs))
        nursery.kill(worker)
        worker = nursery.worker()
    found = nursery.wait_for(disturbed, ended)

    assert found["attempt"] == 3
    figures = [[(e["loss"], e["validation_loss"]) for e in one["history"]] for one in (calm, found)]
    assert figures[0] == figures[1]
    assert found["result"]["metrics"] == calm["result"]["metrics"]


@sqlite
def test_a_worker_outlasts_a_server_that_is_away(nursery: Nursery, until: Until) -> None:
    server = nursery.server()
    nursery.worker()
    nursery.push()
    job_id = nursery.submit(adapter="cells", epochs=20)
    nursery.wait_for(job_id, has_epochs(2))
    nursery.kill(server)
    killed_at = time.time()
    until(
        lambda: lease_until(nursery, job_id) > killed_at + 3 * nursery.lease_s
    )  # renewed two leases after the kill or later
    nursery.server()
    found = nursery.wait_for(job_id, ended)
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
    nursery.push()
    job_id = nursery.submit(adapter="cells", epochs=900)
    nursery.wait_for(job_id, has_epochs(1))
    assert nursery.http.delete(f"/jobs/{job_id}").status_code == 202
    found = nursery.wait_for(job_id, ended, 10)
    assert (found["state"], found["result"]) == ("cancelled", None)
    assert nursery.http.get("/adapters").json() == {"adapters": []}


@sqlite
def test_a_server_gives_bit_exact_answers_while_a_job_trains_and_publishes(nursery: Nursery, until: Until) -> None:
    nursery.executor = "auto"
    nursery.server()
    nursery.worker()
    nursery.push()
    nursery.wait_for(nursery.submit(adapter="cells"), ended)
    image = nursery.image()

    def ask() -> tuple[str, str]:
        response = nursery.http.post("/predict?adapter=cells@1", content=image).json()
        return str(response["predictions"]), response["adapter"]["digest"]

    joins = nursery.http.get("/limits").json()["engine"]["executor"] == "openvino"

    def is_settled() -> bool:
        """Each way of computing has its own last bits; the server has switched to its last one."""
        ask()
        if joins:
            return 'lensmount_images_total{mode="whole"}' in nursery.http.get("/metrics").text
        return bool(nursery.http.get("/adapters/cells").json()["tier"] == "hot")

    until(is_settled, 60)
    answers = []
    job_id = nursery.submit(adapter="cells", alias="prod", seed=1, force=True, epochs=8)
    while not ended(found := nursery.job(job_id)):
        answers.append(ask())
    assert (found["result"]["published"], found["result"]["adapter"]["version"]) == (True, 2)
    assert len(answers) > 5
    assert len(set(answers)) == 1
    assert nursery.http.get("/integrity").json()["ok"]
