from __future__ import annotations

import io
import json
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from lensmount_service import cli, logs
from lensmount_service.build import Parts
from lensmount_service.gc import collect
from lensmount_service.maintenance import collect_garbage
from lensmount_service.settings import Retention
from lensmount_service.store.blobs import BlobStore
from lensmount_service.store.registry import Registry

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng


@pytest.fixture
def parts(make_parts: MakeParts) -> Iterator[Parts]:
    with make_parts() as parts:
        yield parts


@pytest.fixture
def client(parts: Parts, make_adapter: MakeAdapter, make_png: MakePng) -> Iterator[TestClient]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for number in range(12):
            file.writestr(f"{'ab'[number % 2]}/{number}.png", make_png(number))
    with TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/adapters/cells", content=make_adapter(1)).raise_for_status()
        headers = {"Content-Type": "application/zip"}
        client.put("/datasets/cells", content=buffer.getvalue(), headers=headers).raise_for_status()
        yield client


def gather(parts: Parts, state: Path, older_than_s: float = 0.0, retention: Retention = Retention()) -> Any:
    training = parts.training
    blobs = BlobStore(state / "blobs")
    registry, pools = Registry(training.jobs.database), training.pools
    return collect(state, registry, blobs, training.jobs, training.datasets, pools, older_than_s, retention)


def litter(path: Path, data: bytes = b"half") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    past = time.time() - 7200
    os.utime(path, (past, past))
    os.utime(path.parent, (past, past))
    return path


def test_files_that_rows_point_at_stay_and_the_others_are_removed(
    parts: Parts, client: TestClient, tmp_path: Path
) -> None:
    job = client.post("/jobs", json={"dataset": "cells", "adapter": "cells"}).json()["id"]
    lease = parts.training.jobs.claim("w", parts.engine.backbone.fingerprint)
    assert lease is not None
    held = {"Lensmount-Lease": lease.token}
    for name in ("card.md", "checkpoint"):
        client.put(f"/jobs/{job}/files/{name}", content=b"x", headers=held).raise_for_status()
    working = litter(tmp_path / "worker" / "jobs" / f"{job}-{lease.token}" / "adapter.safetensors")
    kept = sorted(path for path in tmp_path.rglob("*") if path.is_file() and "sqlite3" not in path.name)
    gone = [
        litter(tmp_path / "blobs" / ("0" * 64)),
        litter(tmp_path / "blobs" / ".abc.tmp"),
        litter(tmp_path / "datasets" / f"{'0' * 64}.zip"),
        litter(tmp_path / "datasets" / "tmpx.tmp"),
        litter(tmp_path / "jobs" / ("f" * 32) / "card.md"),
        litter(tmp_path / "jobs" / job / ".card.md.x.tmp"),
        litter(tmp_path / "worker" / "jobs" / f"{job}-{'0' * 32}" / "adapter.safetensors"),
        litter(tmp_path / "worker" / "datasets" / f"{'0' * 64}.zip"),
        litter(tmp_path / "pools" / ("0" * 64)),
    ]
    collected = gather(parts, tmp_path, 3600)
    assert collected.total == 9
    assert not any(path.exists() for path in gone)
    assert working.exists()
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file() and "sqlite3" not in path.name) == kept
    assert client.get("/adapters/cells/file").status_code == 200
    assert client.get("/datasets/cells/file").status_code == 200


def test_a_young_file_may_belong_to_a_write_in_progress_and_stays(
    parts: Parts, client: TestClient, tmp_path: Path
) -> None:
    young = tmp_path / "blobs" / ("0" * 64)
    young.write_bytes(b"x")
    assert gather(parts, tmp_path, 3600).total == 0
    assert young.exists()
    assert gather(parts, tmp_path, 0).total == 1


def test_the_checkpoint_of_a_succeeded_job_is_removed_and_that_of_a_failed_job_is_kept_for_a_retry(
    parts: Parts, client: TestClient, tmp_path: Path
) -> None:
    jobs = parts.training.jobs
    for state in ("succeeded", "failed"):
        client.post("/jobs", json={"dataset": "cells", "adapter": "cells"})
        lease = jobs.claim("w", parts.engine.backbone.fingerprint)
        assert lease is not None
        held = {"Lensmount-Lease": lease.token}
        client.put(f"/jobs/{lease.id}/files/checkpoint", content=b"x", headers=held).raise_for_status()
        jobs.finish(lease, state)
    gather(parts, tmp_path)
    assert lease is not None
    assert [path.parent.name for path in (tmp_path / "jobs").glob("*/checkpoint")] == [lease.id]


def test_an_upload_whose_bytes_were_just_collected_stores_them_again(
    parts: Parts, client: TestClient, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The collector runs between an upload's two writes."""
    publish = Registry.publish

    def collected_before(*arguments: Any) -> Any:
        gather(parts, tmp_path)
        return publish(*arguments)

    monkeypatch.setattr(Registry, "publish", collected_before)
    client.put("/adapters/tiles", content=make_adapter(2)).raise_for_status()
    assert client.get("/adapters/tiles/file").content == make_adapter(2)


def test_a_server_collects_what_is_old_when_it_starts(make_parts: MakeParts, tmp_path: Path) -> None:
    with make_parts():  # so that there is a database; files without one stop a start
        pass
    litter(tmp_path / "blobs" / ("0" * 64))
    with make_parts():
        assert list((tmp_path / "blobs").iterdir()) == []


def test_the_command_reports_what_it_removed(
    make_parts: MakeParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "configure", lambda settings: None)  # it configures the whole process
    with make_parts() as parts:
        assert parts
    litter(tmp_path / "blobs" / ("0" * 64))
    litter(tmp_path / "pools" / ("0" * 64))
    app = typer.Typer()
    app.command("gc")(cli.gc)
    ended = CliRunner().invoke(app, ["--state", str(tmp_path), "--json"])
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout) == {"blobs": 1, "datasets": 0, "jobs": 0, "worker": 0, "pools": 1}


def test_collecting_twice_has_the_effect_of_once(make_parts: MakeParts, tmp_path: Path) -> None:
    with make_parts() as parts:
        assert parts
    from lensmount_service.settings import Settings

    assert collect_garbage(Settings(state=tmp_path), 0).total == 0


def test_what_was_deleted_stays_for_the_stated_time_and_then_its_files_go(
    parts: Parts, client: TestClient, tmp_path: Path
) -> None:
    client.delete("/adapters/cells")
    client.delete("/datasets/cells")
    assert gather(parts, tmp_path).total == 0
    assert client.post("/adapters/cells/undelete").status_code == 200
    client.delete("/adapters/cells")

    removed = gather(parts, tmp_path, retention=Retention(undelete_s=0))
    assert (removed.blobs, removed.datasets) == (1, 1)
    assert client.post("/adapters/cells/undelete").status_code == 404
    assert client.post("/datasets/cells/undelete").status_code == 404


def test_the_files_of_a_job_stay_after_its_end_for_the_stated_time(
    parts: Parts, client: TestClient, tmp_path: Path
) -> None:
    job = client.post("/jobs", json={"dataset": "cells", "adapter": "cells"}).json()["id"]
    lease = parts.training.jobs.claim("w", parts.engine.backbone.fingerprint)
    assert lease is not None
    held = {"Lensmount-Lease": lease.token}
    client.put(f"/jobs/{job}/files/card.md", content=b"x", headers=held).raise_for_status()
    soon = Retention(keep_job_files_s=0)
    assert gather(parts, tmp_path, retention=soon).jobs == 0  # it still runs
    parts.training.jobs.finish(lease, "failed", None, ("error", "no"))

    assert gather(parts, tmp_path, retention=Retention(keep_job_files_s=3600)).jobs == 0
    assert gather(parts, tmp_path, retention=soon).jobs == 1
    assert client.get(f"/jobs/{job}").json()["state"] == "failed"
