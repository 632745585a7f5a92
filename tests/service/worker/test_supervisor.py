from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import SecretStr

from lensmount_service.settings import Settings
from lensmount_service.worker import supervisor
from lensmount_service.worker.settings import WorkerSettings
from lensmount_service.worker.supervisor import WorkerProcess, worker_variables

if TYPE_CHECKING:
    from tests.service.conftest import MakeImages, Until
    from tests.service.known_machine import KnownMachine


@pytest.fixture(autouse=True)
def _no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "DELAYS_S", (0.01, 0.02))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state=tmp_path,
        token=SecretStr("secret-token"),
        database=SecretStr("postgresql://a:b@db/x"),
        backbone="resnet10t",
    )


def child(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code)


class Log:
    """The supervisor's log: what it has reported at the levels warning and error."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    error = warning


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(supervisor, "log", log)
    return log


def test_a_worker_that_crashes_is_restarted(settings: Settings, until: Until, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    code = f"open({str(starts)!r}, 'a').write('x'); raise SystemExit(1)"
    with WorkerProcess(settings, "http://127.0.0.1:1", child(code)):
        until(lambda: starts.exists() and len(starts.read_text()) >= 3)


def test_a_worker_that_cannot_start_is_not_restarted(
    settings: Settings, log: Log, until: Until, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    code = f"open({str(starts)!r}, 'a').write('x'); raise SystemExit(78)"
    with WorkerProcess(settings, "http://127.0.0.1:1", child(code)) as worker:
        until(lambda: log.events)
        assert worker.is_running  # so that the server keeps its one supervisor until it ends
    assert log.events == [("worker cannot start; jobs will wait", {})]  # a restart logs its delay
    assert starts.read_text() == "x"


def test_the_worker_ends_with_the_server(settings: Settings, until: Until) -> None:
    with WorkerProcess(settings, "http://127.0.0.1:1", child("import time; time.sleep(60)")) as worker:
        until(lambda: worker.pid is not None)
        pid = worker.pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert worker.pid is None


def test_a_worker_that_ignores_sigterm_is_killed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, until: Until, tmp_path: Path
) -> None:
    monkeypatch.setattr(supervisor, "TERMINATE_S", 0.2)
    deaf = tmp_path / "deaf"
    code = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(deaf)!r}, 'w'); time.sleep(60)"
    with WorkerProcess(settings, "http://127.0.0.1:1", child(code)) as worker:
        until(deaf.exists)
        pid = worker.pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_secrets_are_passed_in_the_environment_and_not_on_the_command_line(settings: Settings) -> None:
    values = worker_variables(settings, "http://127.0.0.1:8000")
    assert values["LENSMOUNT_TOKEN"] == "secret-token"
    assert values["LENSMOUNT_DATABASE"] == "postgresql://a:b@db/x"
    assert values["LENSMOUNT_SERVER"] == "http://127.0.0.1:8000"
    assert values["LENSMOUNT_BACKBONE"] == "resnet10t"
    assert values["LENSMOUNT_MAX_PIXELS"] == str(settings.max_pixels)
    assert values["LENSMOUNT_MAX_IMAGE_BYTES"] == str(settings.max_image_bytes)
    worker = WorkerProcess(settings, "http://127.0.0.1:8000")
    assert worker.variables == values
    assert "secret-token" not in " ".join(worker.command)


@pytest.mark.parametrize(
    ("environment", "device", "share"),
    [
        ({}, "cuda:0", 0.5),
        ({"LENSMOUNT_WORKER_DEVICE": "cuda:1", "LENSMOUNT_WORKER_GPU_SHARE": "0.9"}, "cuda:1", 0.9),
    ],
)
def test_a_worker_beside_a_server_may_have_a_device_of_its_own_and_leaves_memory_to_the_server(
    environment: dict[str, str], device: str, share: float, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = worker_variables(settings.model_copy(update={"device": "cuda:0"}), "http://127.0.0.1:8000")
    for name, value in (supervisor.BESIDE_A_SERVER | environment | given).items():
        monkeypatch.setenv(name, value)
    worker = WorkerSettings()

    assert (worker.device, worker.gpu_share) == (device, share)


def test_serve_with_worker_trains_while_it_serves_and_leaves_no_process_behind_when_it_is_killed(
    machine: KnownMachine, tmp_path: Path, make_images: MakeImages, until: Until
) -> None:
    machine.prepare(tmp_path / "state")
    make_images(tmp_path / "images", ("a", "b"), 10)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((tmp_path / "images").rglob("*.png")):
            file.write(path, path.relative_to(tmp_path / "images").as_posix())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lensmount_client", "serve", "--with-worker", "--port", str(port), "--no-zoo"]
    options = [
        "--backbone",
        "test_resnet",
        "--weights",
        "random:0",
        "--executor",
        "eager",
        "--state",
        str(tmp_path / "state"),
    ]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([*command, *options], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            until(lambda: answers(client, server), 120)
            headers = {"Content-Type": "application/zip"}
            client.put("/datasets/cells", content=archive.getvalue(), headers=headers).raise_for_status()
            job = {"dataset": "cells", "adapter": "cells", "method": "norm", "epochs": 2, "size": 32}
            url = f"/jobs/{client.post('/jobs', json=job).json()['id']}"
            until(lambda: client.get(url).json()["state"] not in ("queued", "running"), 120)
            assert client.get(url).json()["state"] == "succeeded", (tmp_path / "log").read_text()
        workers = children(server.pid)
        assert len(workers) == 1
        assert os.getpriority(os.PRIO_PROCESS, workers[0]) >= 10
    finally:
        server.kill()
        server.wait()
    until(lambda: not is_alive(workers[0]), 60)


def answers(client: httpx.Client, server: subprocess.Popen[bytes]) -> bool:
    assert server.poll() is None
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def children(pid: int) -> list[int]:
    pids = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            pids.append(int(status.parent.name))
    return pids


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
