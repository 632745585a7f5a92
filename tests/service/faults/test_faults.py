"""Every point at which something can fail, with every fault: the state is that before or after.

`pytest -m soak tests/service/faults` stops at every passage of a point; the usual run at the last one of an operation.
"""

from __future__ import annotations

import ast
import errno
import itertools
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from tests.service.faults.operations import OPERATIONS, Operation, World

from lensmount_adapters import faults, load_backbone
from lensmount_adapters.adapter.file import dump_adapter, parse_adapter

if TYPE_CHECKING:
    from tests.conftest import DrawAdapter
    from tests.service.conftest import DrawImages, MakeParts, MakePng, Zip

ROOT = Path(__file__).parent.parent.parent.parent
PACKAGES = ("adapters/lensmount_adapters", "service/lensmount_service")
LEFT_OUT = {
    *("exports.write", "exports.rename", "publishing.version", "publishing.alias", "blobs.read"),
    *("archive.read", "archive.write", "archive.rename"),
    *("objects.create", "objects.delete", "job_files.shared"),
}
"""Points that have tests of their own: exports and what trunks gave are only caches; publishing is one transaction;
tests/service/two_servers has an object store."""
COMMANDS = ("backup.", "restore.", "recover.", "database.copy")
"""How the points of commands begin; tests/service/backup and tests/service/repair kill these at every one."""


def disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def disk_broken() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def no_memory() -> None:
    raise MemoryError


FAULTS = {"full": disk_full, "broken": disk_broken, "no memory": no_memory, "slow": lambda: time.sleep(0.02)}


class Recorder:
    """Notes the points in the order in which an operation passes them; `at` acts at one of these passages."""

    def __init__(self, at: int = -1, act: Callable[[], None] = lambda: None) -> None:
        self.points: list[str] = []
        self._at = at
        self._act = act

    def __call__(self, point: str) -> None:
        self.points.append(point)
        if len(self.points) - 1 == self._at:
            self._act()


@pytest.fixture(scope="module")
def world(make_shared_parts: MakeParts, draw_adapter: DrawAdapter, images: DrawImages, zipped: Zip) -> Iterator[World]:
    backbone = load_backbone("test_resnet", "random:0")
    backbone.preprocessing = backbone.preprocessing.model_copy(update={"size": (64, 64)})

    def draw(number: int) -> list[bytes]:
        return list(images(seed=10_000 + number, a=12).values())

    two = [
        parse_adapter(
            draw_adapter(backbone, modules=r"layer4\.0\.conv.", size=2.0, seed=seed, labels=("a", "b")).dump()
        )
        for seed in (1, 2)
    ]

    def relabelled(number: int) -> bytes:
        manifest = two[number % 2].manifest.model_copy(update={"labels": (f"a{number}", "b")})
        return dump_adapter(manifest, two[number % 2].tensors)

    with (
        make_shared_parts(backbone, executor="merged") as parts,
        TestClient(parts.app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client,
    ):
        yield World(parts, client, relabelled, draw, zipped)


@pytest.fixture(scope="module")
def fresh() -> Iterator[str]:
    return (f"k{number}" for number in itertools.count())


def passed(world: World, operation: Operation, key: str) -> list[str]:
    """The points that the operation passes."""
    operation.prepare(world, key)
    with faults.installed(recorder := Recorder()):
        assert operation.act(world, key).status_code < 300
    return recorder.points


def stop_everywhere(world: World, operation: Operation, fresh: Iterator[str], every: bool) -> list[str]:
    points = passed(world, operation, next(fresh))
    for at, point in enumerate(points):
        if every or point not in points[at + 1 :]:
            for fault, act in FAULTS.items():
                stop_once(world, operation, next(fresh), Recorder(at, act), f"{point} (passage {at}), {fault}")
    return points


def stop_once(world: World, operation: Operation, key: str, recorder: Recorder, where: str) -> None:
    """Interrupt the operation; then nothing is half done, and the same request succeeds."""
    operation.prepare(world, key)
    before = operation.state(world, key)
    with faults.installed(recorder):
        stopped = operation.act(world, key)
    assert stopped.status_code < 300 or stopped.status_code in (503, 507), (where, stopped.text)
    between = operation.state(world, key)
    again = operation.act(world, key)
    after = operation.state(world, key)
    assert again.status_code < 300 or (between == after and again.status_code < 500), (where, again.text)
    assert between in (before, after), (where, before, between, after)
    if stopped.status_code < 300:
        assert between == after, (where, "an acknowledged change is not there")


visited: set[str] = set()


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_fault_leaves_the_state_before_or_after_and_the_next_request_is_served(
    world: World, fresh: Iterator[str], name: str
) -> None:
    visited.update(stop_everywhere(world, OPERATIONS[name], fresh, every=False))


@pytest.mark.soak
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_fault_at_every_passage_leaves_the_state_before_or_after(
    world: World, fresh: Iterator[str], name: str
) -> None:
    visited.update(stop_everywhere(world, OPERATIONS[name], fresh, every=True))


def test_a_fault_in_any_write_of_a_swap_leaves_the_base_and_the_next_prediction_is_right(
    world: World, fresh: Iterator[str], make_png: MakePng
) -> None:
    key, image = next(fresh), make_png(1)
    assert world.client.put(f"/adapters/{key}", content=world.version(key, 0)).status_code == 201
    expected = world.client.post(f"/predict?adapter={key}", content=image).json()["predictions"]

    other = next(fresh)
    assert world.client.put(f"/adapters/{other}", content=world.version(other, 1)).status_code == 201
    assert world.client.post(f"/predict?adapter={other}", content=image).status_code == 200
    with faults.installed(recorder := Recorder()):
        assert world.client.post(f"/predict?adapter={key}", content=image).status_code == 200
    assert {"swap.write", "swap.restore"} <= set(recorder.points)
    visited.update(recorder.points)
    for at, act in itertools.product(range(len(recorder.points)), (disk_full, disk_broken, no_memory)):
        assert world.client.post(f"/predict?adapter={other}", content=image).status_code == 200
        with faults.installed(Recorder(at, act)):
            stopped = world.client.post(f"/predict?adapter={key}", content=image)
        assert (stopped.status_code, stopped.json()["code"]) == (503, "swap_failed")
        again = world.client.post(f"/predict?adapter={key}", content=image)
        assert again.json()["predictions"] == expected
    assert world.client.get("/integrity").json()["ok"]


def test_a_fault_in_any_write_of_a_jobs_file_leaves_the_file_before_or_after(
    world: World, fresh: Iterator[str]
) -> None:
    key = next(fresh)
    OPERATIONS["cancel"].prepare(world, key)
    lease = world.parts.training.jobs.claim("w", world.parts.engine.backbone.fingerprint)
    assert lease is not None
    path, headers = f"/jobs/{lease.id}/files/card.md", {"Lensmount-Lease": lease.token}
    with faults.installed(recorder := Recorder()):
        assert world.client.put(path, content=b"0", headers=headers).status_code == 204
    visited.update(recorder.points)
    before = b"0"
    for number, (at, act) in enumerate(itertools.product(range(len(recorder.points)), FAULTS.values())):
        body = str(number + 1).encode()
        with faults.installed(Recorder(at, act)):
            stopped = world.client.put(path, content=body, headers=headers)
        assert stopped.status_code in (204, 503, 507), stopped.text
        kept = world.client.get(path).content
        assert kept in (before, body)
        assert kept == body or stopped.status_code != 204
        before = kept
    folder = world.parts.app.state.context.settings.state / "jobs" / lease.id
    assert [path.name for path in folder.iterdir()] == ["card.md"]


def test_every_point_was_visited_and_every_write_has_one() -> None:
    """This test reads what the tests above have visited."""
    named, bare = set(), []
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named |= {
            node.args[0].value
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "fault"
            and node.args
            and isinstance(node.args[0], ast.Constant)
        }
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and "/store/" in str(path):
                text = ast.unparse(function)
                if re.search(r"os\.fsync|os\.replace|\.replace\(self\._|\.rename\(", text) and "fault(" not in text:
                    bare.append(f"{path.name}: {function.name}")
    assert bare == []
    assert {point for point in named - visited if not str(point).startswith(COMMANDS)} <= LEFT_OUT
