from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import httpx
import pytest

from lensmount_service import supervisor
from lensmount_service.settings import Settings
from lensmount_service.supervisor import WorkerProcess, _environment


@pytest.fixture(autouse=True)
def _no_delay(monkeypatch):
    monkeypatch.setattr(supervisor, "DELAYS_S", (0.01, 0.02))


@pytest.fixture
def settings(tmp_path):
    return Settings(state=tmp_path, token="secret-token", database="postgresql://a:b@db/x", backbone="resnet10t")


def child(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code)


def wait_until(holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_worker_that_crashes_is_started_anew(settings, tmp_path):
    starts = tmp_path / "starts"
    code = f"open({str(starts)!r}, 'a').write('x'); raise SystemExit(1)"
    with WorkerProcess(settings, "http://127.0.0.1:1", child(code)):
        wait_until(lambda: starts.exists() and len(starts.read_text()) >= 3)


def test_a_worker_that_cannot_start_is_not_tried_again_and_again(settings, tmp_path):
    starts = tmp_path / "starts"
    code = f"open({str(starts)!r}, 'a').write('x'); raise SystemExit(78)"
    with WorkerProcess(settings, "http://127.0.0.1:1", child(code)):
        wait_until(starts.exists)
        time.sleep(0.5)
    assert starts.read_text() == "x"


def test_the_worker_ends_with_the_server(settings):
    with WorkerProcess(settings, "http://127.0.0.1:1", child("import time; time.sleep(60)")) as worker:
        wait_until(lambda: worker.pid is not None)
        pid = worker.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert worker.pid is None


def test_a_worker_that_hears_no_sigterm_is_killed(settings, monkeypatch, tmp_path):
    monkeypatch.setattr(supervisor, "TERMINATE_S", 0.2)
    deaf = tmp_path / "deaf"
    code = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(deaf)!r}, 'w'); time.sleep(60)"
    with WorkerProcess(settings, "http://127.0.0.1:1", child(code)) as worker:
        wait_until(deaf.exists)
        pid = worker.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_secrets_go_by_the_environment_and_not_on_the_command_line(settings):
    values = _environment(settings, "http://127.0.0.1:8000")
    assert values["LENSMOUNT_TOKEN"] == "secret-token"
    assert values["LENSMOUNT_DATABASE"] == "postgresql://a:b@db/x"
    assert values["LENSMOUNT_SERVER"] == "http://127.0.0.1:8000"
    assert values["LENSMOUNT_BACKBONE"] == "resnet10t"
    worker = WorkerProcess(settings, "http://127.0.0.1:8000")
    assert "secret-token" not in " ".join(worker._command)


def test_serve_with_worker_trains_beside_the_server_and_leaves_no_process_behind_when_it_is_killed(
    tmp_path, make_pictures
):
    make_pictures(tmp_path / "pictures", ("a", "b"), 10)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((tmp_path / "pictures").rglob("*.png")):
            file.write(path, path.relative_to(tmp_path / "pictures").as_posix())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lensmount_client", "serve", "--with-worker", "--port", str(port), "--no-zoo"]
    options = ["--backbone", "test_resnet", "--weights", "random:0", "--state", str(tmp_path / "state")]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([*command, *options], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            wait_until(lambda: answers(client, server), 120)
            headers = {"Content-Type": "application/zip"}
            client.put("/datasets/cells", content=archive.getvalue(), headers=headers).raise_for_status()
            job = {"dataset": "cells", "adapter": "cells", "method": "norm", "epochs": 2, "size": 32}
            path = f"/jobs/{client.post('/jobs', json=job).json()['id']}"
            wait_until(lambda: client.get(path).json()["state"] not in ("queued", "running"), 120)
            assert client.get(path).json()["state"] == "succeeded", (tmp_path / "log").read_text()
        workers = children(server.pid)
        assert len(workers) == 1
        assert os.getpriority(os.PRIO_PROCESS, workers[0]) >= 10
    finally:
        server.kill()
        server.wait()
    wait_until(lambda: not is_alive(workers[0]), 60)


def answers(client: httpx.Client, server: subprocess.Popen) -> bool:
    assert server.poll() is None
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
