"""A worker in this process, and a real server in another thread, both with a tiny backbone."""

from __future__ import annotations

import io
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

from lensmount_adapters import Backbone
from lensmount_adapters.backbone.load import load_backbone
from lensmount_service.tracing.middleware import trace
from lensmount_service.tracing.tracer import Tracer
from lensmount_service.worker.settings import WorkerSettings
from lensmount_service.worker.worker import open_worker

if TYPE_CHECKING:
    from tests.service.conftest import MakeImages
    from tests.service.known_machine import KnownMachine
    from tests.service.recorded import Recorded

JOB = {
    "dataset": "cells",
    "method": "norm",
    "epochs": 2,
    "size": 32,
    "batch_size": 8,
    "learning_rate": 0.02,
    "average": 0,
}

# The types of the fixtures that are functions

Submit = Callable[..., str]
Work = Callable[..., None]


@pytest.fixture(scope="module")
def tiny() -> tuple[Backbone, Backbone]:
    return _tiny(), _tiny()


def _tiny() -> Backbone:
    """At 64 pixels instead of 160: a server measures its programs, and checks a new adapter, at this size."""
    backbone = load_backbone("test_resnet", "random:0")
    backbone.preprocessing = backbone.preprocessing.model_copy(update={"size": (64, 64)})
    return backbone


@contextmanager
def serving(
    machine: KnownMachine, state: Path, backbone: Backbone, tracer: Tracer | None = None, **settings: Any
) -> Iterator[httpx.Client]:
    """A server on a free port, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with machine.open(state, backbone, **settings) as parts:
            if tracer is not None:
                trace(parts.app, tracer)
            server = uvicorn.Server(uvicorn.Config(parts.app, log_config=None, lifespan="on", timeout_keep_alive=300))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            try:
                with httpx.Client(
                    timeout=300,
                    base_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
                    trust_env=False,
                    headers={"Authorization": "Bearer secret"},
                ) as client:
                    yield client
            finally:
                server.should_exit = True
                thread.join()


@pytest.fixture
def client(
    machine: KnownMachine, tmp_path: Path, tiny: tuple[Backbone, Backbone], make_images: MakeImages
) -> Iterator[httpx.Client]:
    with serving(machine, tmp_path, tiny[0], token="secret") as client:
        push(client, tmp_path, make_images)
        yield client


@pytest.fixture
def traced_client(
    machine: KnownMachine,
    tmp_path: Path,
    tiny: tuple[Backbone, Backbone],
    make_images: MakeImages,
    recorded: Recorded,
) -> Iterator[httpx.Client]:
    """Like `client`, of a server that records its traces."""
    with serving(machine, tmp_path, tiny[0], recorded.tracer, token="secret") as client:
        push(client, tmp_path, make_images)
        yield client


def push(client: httpx.Client, tmp_path: Path, make_images: MakeImages, each: int = 10) -> None:
    make_images(tmp_path / "images", ("a", "b"), each)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for path in sorted((tmp_path / "images").rglob("*.png")):
            file.write(path, path.relative_to(tmp_path / "images").as_posix())
    headers = {"Content-Type": "application/zip"}
    client.put("/datasets/cells", content=buffer.getvalue(), headers=headers).raise_for_status()


@pytest.fixture
def work(client: httpx.Client, tmp_path: Path, tiny: tuple[Backbone, Backbone]) -> Callable[..., None]:
    """`work()` lets a worker go through the queued jobs."""

    def run(**settings: Any) -> None:
        values = {"token": "secret", "state": tmp_path, "server": str(client.base_url), "threads": 1, "once": True}
        with open_worker(WorkerSettings(**{**values, "retry_for_s": 5, **settings}), tiny[1]) as own:
            own.run()

    return run


@pytest.fixture
def submit(client: httpx.Client) -> Submit:
    """`submit(seed=1)` is the id of a new job for the adapter `malaria`; `submit(by=other_client)` is another's."""

    def submitted(by: httpx.Client = client, **fields: Any) -> str:
        response = by.post("/jobs", json={**JOB, "adapter": "malaria", **fields})
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    return submitted
