"""Mistyped names on a server get a suggestion, at a bounded cost."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from lensmount_service.store.adapter_rows import version_table
from lensmount_service.store.database import Database
from lensmount_service.store.similar import similar_key, similar_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpx2 import Response
    from tests.service.conftest import MakePng


def detail(answer: Response) -> str:
    assert answer.status_code in (404, 422)
    return str(answer.json()["detail"])


def test_every_kind_of_mistyped_name_gets_a_suggestion(client: TestClient, make_png: MakePng) -> None:
    client.put("/adapters/cells/aliases/production", json={"version": 1}).raise_for_status()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(12):
            file.writestr(f"{'ab'[number % 2]}/{number}.png", make_png(number))
    zipped: dict[str, Any] = {"content": archive.getvalue(), "headers": {"Content-Type": "application/zip"}}
    client.put("/datasets/slides", **zipped).raise_for_status()

    def asked(adapter: str) -> str:
        return detail(client.post(f"/predict?adapter={adapter}", content=make_png()))

    def submitted(**fields: object) -> str:
        return detail(client.post("/jobs", json={"dataset": "slides", "adapter": "x", **fields}))

    assert "'cels'. Did you mean 'cells'?" in asked("cels")
    assert "Did you mean 'production'?" in asked("cells:producton")
    assert "no version 7 of 'cells'. Did you mean 1, the latest?" in asked("cells@7")
    assert "Did you mean 'tiles'?" in detail(client.get("/adapters/tile"))
    assert "Did you mean" not in detail(client.get("/adapters/something-else"))
    assert "Did you mean 'slides'?" in detail(client.get("/datasets/slide"))
    assert "Did you mean 'slides'?" in submitted(dataset="slids")
    assert "Did you mean 1, the latest?" in submitted(dataset="slides@3")
    assert "Did you mean 'epochs'?" in submitted(epoch=3)


def test_a_deleted_adapter_is_not_suggested(client: TestClient) -> None:
    client.delete("/adapters/cells").raise_for_status()
    assert "Did you mean" not in detail(client.get("/adapters/cels"))


@pytest.mark.parametrize("name", ["task-05000x", "x" * 64, "task"])
def test_ten_thousand_names_cost_little(tmp_path: Path, name: str) -> None:
    database = Database(tmp_path / "registry.sqlite3")
    database.create()
    row = {"digest": "sha256:0", "size_bytes": 1, "created_at": "", "deleted": False, "manifest": "{}", "version": 1}
    with database.write() as connection:
        connection.execute(version_table.insert(), [{**row, "name": f"task-{number:05}"} for number in range(10_000)])
    with database.read() as connection:
        started = time.process_time()
        meant = similar_name(connection, version_table.c.name, sa.not_(version_table.c.deleted), name)
        assert time.process_time() - started < 0.5
    database.close()
    assert meant == {"task-05000x": " Did you mean 'task-05000'?"}.get(name, "")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("malarja", " Did you mean 'malaria'?"),
        ("smokinh", ""),  # another tenant's
        ("lab1/smokinh", " Did you mean 'smoking'?"),
        ("lab1/malarja", ""),
        ("lab2/smokinh", ""),
        ("lab1/histologz", " Did you mean 'histology'?"),
    ],
)
def test_only_names_of_the_key_s_own_tenant_are_suggested(reopen: Callable[[], Database], key: str, meant: str) -> None:
    names = sa.table("names", sa.column("key", sa.String))
    with reopen().write() as connection:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE names (key VARCHAR(128))")
        known = ("malaria", "lab1/smoking", "lab10/smokinh", "lab1/histology")
        connection.execute(names.insert(), [{"key": each} for each in known])
        assert similar_key(connection, names.c.key, sa.true(), key) == meant
