"""All kinds of files in an object store: given to it later, collected, backed up and restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from lensmount_adapters.faults import installed
from lensmount_service.build import Parts
from lensmount_service.jobs.records import Lease
from lensmount_service.maintenance import check, collect_garbage, make_backup, restore
from lensmount_service.settings import Settings
from lensmount_service.store.remote.objects import Objects

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeAdapter, MakePng, Zip
    from tests.service.known_machine import KnownMachine

    from lensmount_adapters import Backbone

Start = Callable[..., Any]
JOB = {"dataset": "cells", "adapter": "trained", "method": "norm", "epochs": 1, "size": 32}


@pytest.fixture
def start(machine: KnownMachine, backbone: Backbone) -> Start:
    @contextmanager
    def opened(state: Path, database: Path, bucket: Path | None = None) -> Iterator[tuple[TestClient, Parts]]:
        machine.create_tables(database.parent)
        blobs = None if bucket is None else SecretStr(f"file://{bucket}")
        url = SecretStr(f"sqlite:///{database}")
        with machine.open(state, backbone, database=url, blobs=blobs) as parts:
            with TestClient(parts.app, base_url="http://127.0.0.1") as client:
                yield client, parts

    return opened


@pytest.fixture
def fill(make_adapter: MakeAdapter, make_png: MakePng, images: DrawImages, zipped: Zip) -> Callable[..., Any]:
    """`fill(client, parts)` stores a file of each kind. Returns the bytes by the path that answers with them."""

    def store(client: TestClient, parts: Parts) -> dict[str, Any]:
        client.put("/adapters/cells", content=make_adapter(1)).raise_for_status()
        client.put(
            "/datasets/cells", content=zipped(images(a=6, b=6)), headers={"Content-Type": "application/zip"}
        ).raise_for_status()
        sent = client.post("/datasets/pool/unlabelled?who=reader", files=[("file", make_png(77))])
        digest = sent.raise_for_status().json()["images"][0]["digest"]
        job = client.post("/jobs", json=JOB).raise_for_status().json()["id"]
        lease = parts.training.jobs.claim("worker", parts.engine.backbone.fingerprint)
        assert lease is not None
        held = {"Lensmount-Lease": lease.token}
        for text in (b"# First", b"# Card"):
            client.put(f"/jobs/{job}/files/card.md", content=text, headers=held).raise_for_status()
        paths = ("/adapters/cells/file", "/datasets/cells/file", f"/datasets/pool/unlabelled/{digest}")
        return {path: client.get(path).content for path in (*paths, f"/jobs/{job}/files/card.md")}

    return store


def shown(client: TestClient, expected: dict[str, Any]) -> dict[str, Any]:
    return {path: client.get(path).content for path in expected}


def test_files_from_before_the_object_store_are_given_to_it(tmp_path: Path, start: Start, fill: Any) -> None:
    database, bucket = tmp_path / "db" / "registry.sqlite3", tmp_path / "bucket"
    with start(tmp_path / "a", database) as (client, parts):
        stored = fill(client, parts)
    with start(tmp_path / "a", database, bucket) as (client, _):
        assert shown(client, stored) == stored
    with start(tmp_path / "b", database, bucket) as (client, _):
        assert shown(client, stored) == stored


def test_gc_removes_what_no_row_needs_and_nothing_else(tmp_path: Path, start: Start, fill: Any) -> None:
    database, bucket = tmp_path / "db" / "registry.sqlite3", tmp_path / "bucket"
    with start(tmp_path / "a", database, bucket) as (client, parts):
        stored = fill(client, parts)
    settings = Settings(
        state=tmp_path / "a", database=SecretStr(f"sqlite:///{database}"), blobs=SecretStr(f"file://{bucket}")
    )
    objects = Objects(f"file://{bucket}")
    job = next(path.split("/")[2] for path in stored if path.startswith("/jobs"))
    before = keys(objects)
    orphans = ["0" * 64, f"datasets/{'0' * 64}.zip", f"pools/{'0' * 64}"]
    orphans += [f"jobs/gone/card.md/000001.000000001.{'0' * 64}", f"jobs/{job}/card.md/000000.000000001.{'0' * 64}"]
    for key in orphans:
        objects.create(key, b"left over")
    assert collect_garbage(settings, 3600).total == 0
    assert collect_garbage(settings, -1).total >= len(orphans)
    assert keys(objects) == before
    with start(tmp_path / "b", database, bucket) as (client, _):
        assert shown(client, stored) == stored
    assert check(settings).findings == ()


def test_a_file_of_a_worker_that_loses_its_lease_meanwhile_leaves_the_older_one(
    tmp_path: Path, start: Start, fill: Any
) -> None:
    with start(tmp_path / "a", tmp_path / "db" / "registry.sqlite3", tmp_path / "bucket") as (client, parts):
        stored = fill(client, parts)
        path = next(path for path in stored if path.startswith("/jobs"))
        (token,) = parts.training.jobs.tokens()
        job = parts.training.jobs.get(path.split("/")[2])

        def lose_lease(point: str) -> None:
            if point == "job_files.shared":
                parts.training.jobs.give_back(Lease(job, token))

        with installed(lose_lease):
            late = client.put(path, content=b"late", headers={"Lensmount-Lease": token})
        assert (late.status_code, late.json()["code"]) == (409, "lease_lost")
        assert client.get(path).content == b"# Card"


def test_a_backup_has_every_file_of_the_object_store_and_restores_it_elsewhere(
    tmp_path: Path, start: Start, fill: Any
) -> None:
    own = tmp_path / "a" / "registry.sqlite3"
    with start(tmp_path / "a", own, tmp_path / "bucket") as (client, parts):
        stored = fill(client, parts)
        settings = Settings(state=tmp_path / "a", blobs=SecretStr(f"file://{tmp_path}/bucket"))
        for folder in ("blobs", "datasets", "pools"):  # the cache of this server is not what is backed up
            for path in (tmp_path / "a" / folder).glob("[0-9a-f]*"):
                path.unlink()
        made = make_backup(settings, tmp_path / "out")
    assert made.manifest.absent == []
    restore(Settings(state=tmp_path / "c", blobs=SecretStr(f"file://{tmp_path}/other")), tmp_path / "out")
    with start(tmp_path / "c", tmp_path / "c" / "registry.sqlite3", tmp_path / "other") as (client, _):
        assert shown(client, stored) == stored
    with start(tmp_path / "d", tmp_path / "c" / "registry.sqlite3", tmp_path / "other") as (client, _):
        assert shown(client, stored) == stored


def keys(objects: Objects) -> set[str]:
    kinds = (None, "datasets", "pools", "jobs")
    return {file.key for kind in kinds for file in objects.listed(kind)}
