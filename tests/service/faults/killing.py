"""The parent process of servers that kill themselves at a point. It imports torch once and forks them.

It is run as a program: each line on stdin is one JSON command, each line on stdout the JSON that a fork left.
A fork opens the server of a state folder, runs one operation, and leaves what it saw in a file, step by step, so that
the steps before a kill are there. This process has no threads when it forks.
"""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lensmount_adapters import Backbone

BACKBONE = "test_resnet"


def main() -> None:
    from lensmount_adapters.light_timm import import_timm

    import_timm()  # as `lensmount serve` does

    import numpy as np
    import sqlalchemy as sa
    import torch
    from fastapi.testclient import TestClient
    from PIL import Image
    from tests.service.faults.operations import OPERATIONS, World
    from tests.service.known_machine import KnownMachine

    from lensmount_adapters import faults
    from lensmount_adapters.adapter.file import dump_adapter, parse_adapter
    from lensmount_service import logs
    from lensmount_service.build import open_parts
    from lensmount_service.gc import collect
    from lensmount_service.settings import Settings
    from lensmount_service.store.blobs import BlobStore

    backbone = small_backbone()
    (known := Path(sys.argv[1]).with_name("known")).mkdir()
    machine = KnownMachine(known)
    seeds = [Path(path).read_bytes() for path in sys.argv[1:]]
    parsed = [parse_adapter(data) for data in seeds]

    def draw_adapter(number: int) -> bytes:
        file = parsed[number % 2]
        return dump_adapter(file.manifest.model_copy(update={"labels": (f"a{number}", "b")}), file.tensors)

    def draw_images(number: int) -> list[bytes]:
        random = np.random.default_rng(number)
        images = []
        for _ in range(12):
            pixels = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((40, 40)).save(buffer := io.BytesIO(), "PNG")
            images.append(buffer.getvalue())
        return images

    def pack(files: dict[str, bytes]) -> bytes:
        with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
            for name, data in files.items():
                archive.writestr(zipfile.ZipInfo(name), data)
        return buffer.getvalue()

    def run(command: dict[str, Any]) -> None:
        settings = Settings(state=Path(command["state"]), zoo=False, threads=1, executor="merged", log_level="error")
        machine.prepare(settings.state)
        logs.configure(settings)
        operation, key, at = OPERATIONS[command["operation"]], command["key"], command["at"]
        with (
            open_parts(settings, backbone) as parts,
            TestClient(parts.app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client,
        ):
            world = World(parts, client, draw_adapter, draw_images, pack)
            if command["do"] == "interrupt":
                operation.prepare(world, key)
                leave(command, before=operation.state(world, key))
                with faults.installed(killer := Killer(at)):
                    status = operation.act(world, key).status_code
                leave(command, points=killer.points, status=status)
                return
            registry, jobs = parts.training.publisher.registry, parts.training.jobs
            blobs = BlobStore(settings.state / "blobs")
            missing = [digest for digest in registry.digests() if not blobs.holds(digest)]  # an upload would store it
            between = operation.state(world, key)
            again = operation.act(world, key)
            leave(command, between=between, again=again.status_code, after=operation.state(world, key))
            for digest in registry.digests():
                blobs.get(digest)  # raises if the bytes do not match
            for dataset in parts.training.datasets.entries():
                parts.training.datasets.listed(dataset)
            collect(settings.state, registry, blobs, jobs, parts.training.datasets, parts.training.pools, -1)
            left = [str(path) for path in settings.state.rglob("*.tmp")]
            with parts.training.jobs.database.read() as connection:
                sound = connection.execute(sa.text("PRAGMA integrity_check")).scalar_one()
            orphans = sorted(blobs.digests() - registry.digests())
            leave(command, missing=missing, orphans=orphans, left=left, sound=sound)

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:  # so that no fork is the first to build an application
        first = {"do": "interrupt", "operation": "upload", "key": "k0", "at": None}
        run({**first, "state": f"{folder}/state", "out": f"{folder}/out"})
    assert threading.active_count() == 1
    gc.collect()
    gc.freeze()  # a collection in a fork would copy what it looks at
    say({"ready": True})
    for line in sys.stdin:
        command = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                run(command)
                code = 0
            except BaseException as error:
                leave(command, error=repr(error)[:2000])
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        lines = Path(command["out"]).read_text().splitlines()
        say({"code": code} | {key: value for one in lines for key, value in json.loads(one).items()})


def small_backbone() -> Backbone:
    """At 64 pixels instead of 160: each upload is checked at this size."""
    from lensmount_adapters import load_backbone

    backbone = load_backbone(BACKBONE, "random:0")
    backbone.preprocessing = backbone.preprocessing.model_copy(update={"size": (64, 64)})
    return backbone


class Killer:
    """Kills this process at a passage of a point, such as ["database.commit", 2]; None only counts.

    Passages are counted for each point, because a thread that warms up reads files meanwhile, more with each adapter.
    """

    def __init__(self, at: list[Any] | None) -> None:
        self.points: list[str] = []
        self._at = at

    def __call__(self, point: str) -> None:
        self.points.append(point)
        if self._at == [point, self.points.count(point)]:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # until the signal arrives


def leave(command: dict[str, Any], **seen: Any) -> None:
    with Path(command["out"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(seen, default=sorted) + "\n")


def say(response: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(response) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
