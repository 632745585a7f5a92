"""An archive is labelled completely, whatever is killed meanwhile: no image twice, none left out.

The full-length run is `pytest -m soak tests/service/kills`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from tests.service.kills.conftest import archive, insist

from lensmount_adapters import Backbone, load_backbone
from lensmount_client import Client

if TYPE_CHECKING:
    from tests.conftest import DrawAdapter
    from tests.service.conftest import MakePng
    from tests.service.kills.conftest import Nursery

BACKBONE = "test_resnet"  # that of nursery.py
BETWEEN_S = 0.35  # seconds between two kills on average

sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def own() -> Backbone:
    return load_backbone(BACKBONE, "random:0")


class Archive:
    """A folder of images of which every tenth is broken, a server with two adapters, and runs that can be killed."""

    def __init__(self, nursery: Nursery, folder: Path, make_png: MakePng, adapters: list[bytes], images: int) -> None:
        self.nursery, self.folder = nursery, folder
        self.names = []
        (folder / "images").mkdir()
        for number in range(images):
            path = folder / "images" / f"{number:05}.png"
            path.write_bytes(b"broken" if number % 10 == 7 else make_png(number))
            self.names.append(str(path))
        self.server = nursery.server()
        with self.client() as client:
            for name, data in zip(("one", "two"), adapters, strict=True):
                (folder / f"{name}.safetensors").write_bytes(data)
                client.adapters.push(folder / f"{name}.safetensors", name)

    def client(self) -> Client:
        return Client(self.nursery.url, retries=100)

    def start(self, out: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "lensmount_client", "batch", str(self.folder / "images"), "-a", "one,two"]
        environment = {**os.environ, "LENSMOUNT_URL": self.nursery.url}
        return subprocess.Popen([*command, "-o", str(out)], env=environment, stderr=subprocess.PIPE)

    def survive(self, out: Path, kills: int, seed: int) -> Counter[str]:
        """Kill the client and the server at drawn moments until `kills` are done; then let a run end."""
        draw, done = random.Random(seed), Counter[str]()
        run = self.start(out)
        while sum(done.values()) < kills:
            time.sleep(draw.expovariate(1 / BETWEEN_S))
            if run.poll() is not None:
                break
            if draw.random() < 0.3:
                self.nursery.kill(self.server)
                self.server = self.nursery.server()
                done["server"] += 1
            else:
                run.send_signal(signal.SIGKILL)
                run.communicate()
                done["client"] += 1
                run = self.start(out)
        _, told = run.communicate(timeout=240)
        assert run.returncode == 1, told.decode()  # some images are broken
        return done

    def check(self, out: Path, whole: list[dict[str, Any]]) -> None:
        rows = pq.read_table(out).to_pylist()
        pairs = [(row["file"], row["adapter"]) for row in rows]
        assert pairs == [(name, adapter) for name in self.names for adapter in ("one", "two")]
        for mine, other in zip(rows, whole, strict=True):
            assert dict(mine["scores"] or []) == pytest.approx(other["scores"] or {}, abs=1e-5)
            assert (mine["error"], mine["digest"]) == (other["error"], other["digest"])


def survive(nursery: Nursery, tmp_path: Path, make_png: MakePng, adapters: list[bytes], images: int, kills: int) -> Any:
    archive = Archive(nursery, tmp_path, make_png, adapters, images)
    with archive.client() as client:
        client.batch(tmp_path / "images", ["one", "two"], tmp_path / "whole.jsonl")
    whole = [json.loads(line) for line in (tmp_path / "whole.jsonl").read_text().splitlines()]
    done = archive.survive(tmp_path / "out.parquet", kills, seed=images)
    archive.check(tmp_path / "out.parquet", whole)
    assert not (tmp_path / "out.parquet.partial").exists()
    return done


def survive_job(nursery: Nursery, tmp_path: Path, adapters: list[bytes], images: int, kills: int) -> int:
    """Kill the server at drawn moments while it works on a job that labels a dataset."""
    nursery.lease_s = 1.0
    server, draw = nursery.server(), random.Random(images)
    for name, data in zip(("one", "two"), adapters, strict=True):
        insist(lambda name=name, data=data: nursery.http.put(f"/adapters/{name}", content=data))  # type: ignore[misc]
    body = archive(images=images // 2)
    headers = {"Content-Type": "application/zip"}
    insist(lambda: nursery.http.put("/datasets/cells", content=body, headers=headers))
    asked = {"kind": "predict", "dataset": "cells", "adapters": ["one", "two"], "max_attempts": 10}
    job = insist(lambda: nursery.http.post("/jobs", json=asked)).json()["id"]
    done = 0
    while done < kills and nursery.job(job)["state"] in ("queued", "running"):
        time.sleep(draw.expovariate(1 / BETWEEN_S))
        nursery.kill(server)
        server = nursery.server()
        done += 1
    found = nursery.wait_for(job, lambda found: found["state"] not in ("queued", "running"), 200)
    assert found["state"] == "succeeded", f"{found}\n{nursery.log()}"
    text = insist(lambda: nursery.http.get(f"/jobs/{job}/files/results.jsonl")).text
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) == 2 * images
    assert Counter((row["file"], row["adapter"]) for row in rows) == Counter(
        (f"{label}/{number}.png", name)
        for label in ("blue", "red")
        for number in range(images // 2)
        for name in ("one", "two")
    )
    assert [path.name for path in (tmp_path / "jobs" / job).iterdir()] == ["results.jsonl"]
    return done


def drawn(own: Backbone, draw_adapter: DrawAdapter) -> list[bytes]:
    return [draw_adapter(own, seed=seed, modules=r"layer4\..*", size=2.0).dump() for seed in (1, 2)]


@sqlite
def test_no_image_is_twice_or_missing_after_kills_of_client_and_server(
    nursery: Nursery, tmp_path: Path, make_png: MakePng, own: Backbone, draw_adapter: DrawAdapter
) -> None:
    done = survive(nursery, tmp_path, make_png, drawn(own, draw_adapter), images=160, kills=5)
    assert sum(done.values()) >= 2


@sqlite
@pytest.mark.soak
def test_no_image_is_twice_or_missing_after_a_hundred_kills(
    nursery: Nursery, tmp_path: Path, make_png: MakePng, own: Backbone, draw_adapter: DrawAdapter
) -> None:
    done = survive(nursery, tmp_path, make_png, drawn(own, draw_adapter), images=20_000, kills=100)
    print(done)  # noqa: T201  # the figures of the run, shown under -s


@sqlite
def test_a_job_labels_each_image_once_after_kills_of_the_server(
    nursery: Nursery, tmp_path: Path, own: Backbone, draw_adapter: DrawAdapter
) -> None:
    assert survive_job(nursery, tmp_path, drawn(own, draw_adapter), images=160, kills=2) >= 1


@sqlite
@pytest.mark.soak
def test_a_job_labels_each_image_once_after_many_kills_of_the_server(
    nursery: Nursery, tmp_path: Path, own: Backbone, draw_adapter: DrawAdapter
) -> None:
    print(survive_job(nursery, tmp_path, drawn(own, draw_adapter), images=8_000, kills=9))  # noqa: T201
