"""The state of the store as /health/ready says it, and what a server answers while its store has a fault."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from lensmount_service.errors import Unavailable
from lensmount_service.store.database import Database
from lensmount_service.store.health import CHECK_S, SECONDS, StoreHealth, StoreState

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakePng, Until


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def spoil(path: Path) -> None:
    """Overwrite all pages but the first, as a failing disk may."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
        os.fsync(file.fileno())


def test_it_looks_once_a_second_and_checks_the_pages_less_often(tmp_path: Path) -> None:
    database, clock = Database(tmp_path / "registry.sqlite3"), Clock()
    database.create()
    reads: list[int] = []
    health = StoreHealth(database, tmp_path, lambda: reads.append(1), clock)
    for _ in range(5):
        assert health.look() == StoreState()
    assert len(reads) == 1
    clock.now += SECONDS
    health.look()
    assert len(reads) == 2

    spoil(tmp_path / "registry.sqlite3")
    clock.now += CHECK_S
    fault = health.look().fault
    assert fault is not None
    assert "damaged" in fault
    database.close()


def test_while_one_thread_looks_the_others_get_the_answer_before(tmp_path: Path) -> None:
    database = Database(tmp_path / "registry.sqlite3")
    database.create()
    inside: list[StoreState] = []
    health = StoreHealth(database, tmp_path, lambda: inside.append(health.look()))
    assert health.look() == StoreState()
    assert inside == [StoreState()]
    database.close()


def test_what_cannot_be_read_is_a_fault_with_its_reason(tmp_path: Path) -> None:
    database = Database(tmp_path / "registry.sqlite3")
    database.create()

    def fail() -> None:
        raise Unavailable("no answer from the database", code="store_unavailable")

    assert StoreHealth(database, tmp_path, fail).look() == StoreState(fault="no answer from the database")
    nowhere = StoreHealth(database, tmp_path / "none", list).look()
    assert nowhere.degraded is not None
    database.close()


@contextmanager
def every_connection(statement: str) -> Iterator[None]:
    def run(connection: Any, *_: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute(statement)

    sa.event.listen(sa.Pool, "checkout", run)
    try:
        yield
    finally:
        sa.event.remove(sa.Pool, "checkout", run)


def test_a_store_that_can_only_be_read_refuses_writes_and_predictions_go_on(
    client: TestClient, make_adapter: MakeAdapter, make_png: MakePng, until: Until
) -> None:
    answer = client.post("/predict?adapter=cells", content=make_png()).json()["predictions"]
    with every_connection("PRAGMA query_only = 1"):
        for refused in (
            client.put("/adapters/new", content=make_adapter(7)),
            client.delete("/adapters/cells"),
            client.put("/adapters/cells/aliases/prod", json={"version": 1}),
        ):
            assert (refused.status_code, refused.json()["code"]) == (503, "store_read_only")
        assert client.post("/predict?adapter=cells", content=make_png()).json()["predictions"] == answer
        until(lambda: client.get("/health/ready").json()["status"] == "degraded")
        assert "can only be read" in client.get("/health/ready").json()["store"]

    with every_connection("PRAGMA query_only = 0"):
        assert client.put("/adapters/new", content=make_adapter(7)).status_code == 201
    until(lambda: client.get("/health/ready").json()["status"] == "ok")


def test_a_damaged_store_acknowledges_nothing_and_adapters_in_use_still_answer(
    client: TestClient, make_adapter: MakeAdapter, make_png: MakePng, tmp_path: Path, until: Until
) -> None:
    answer = client.post("/predict?adapter=cells", content=make_png()).json()["predictions"]
    assert client.get("/health/ready").json()["status"] == "ok"
    spoil(tmp_path / "registry.sqlite3")

    until(lambda: client.get("/health/ready").status_code == 503)
    unready = client.get("/health/ready").json()
    assert (unready["code"], "damaged" in unready["detail"]) == ("store_unavailable", True)
    for refused in (client.put("/adapters/new", content=make_adapter(7)), client.delete("/adapters/tiles")):
        assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
        assert "Retry-After" not in refused.headers
    assert client.get("/adapters").status_code in (200, 503)
    goes_on = client.post("/predict?adapter=cells", content=make_png())
    assert goes_on.json().get("predictions") == answer, goes_on.json()


def test_a_row_with_another_text_than_was_written_is_damage_and_not_the_client_s_fault(
    client: TestClient, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "registry.sqlite3") as connection:
        connection.execute("UPDATE versions SET manifest = 'garbage' WHERE name = 'cells'")
    connection.close()
    refused = client.get("/adapters")
    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    assert client.get("/adapters/tiles").status_code == 200


@pytest.mark.parametrize("number", [5, 24])  # EIO, EMFILE
def test_a_file_that_cannot_be_read_now_is_not_called_corrupt(
    client: TestClient, make_png: MakePng, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(number, "no", str(path))

    monkeypatch.setattr(Path, "read_bytes", fail)
    refused = client.get("/adapters/cells/file")
    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    assert refused.headers["Retry-After"] == "1"
