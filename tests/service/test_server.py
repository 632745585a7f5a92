"""`lensmount serve` as a process: start, signals, restarts."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakePng

SERVE = [sys.executable, "-m", "lensmount_client", "serve"]
SMALL = ["--backbone", "resnet10t", "--weights", "random:0", "--no-zoo", "--port", "0"]


def stderr_of(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stderr is not None
    return process.stderr


@contextmanager
def serving(state: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process on a free port; yields the process and its URL."""
    process = subprocess.Popen(
        [*SERVE, *SMALL, "--state", str(state), *options], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    lines: list[str] = []
    found = threading.Event()

    def drain() -> None:
        for line in stderr_of(process):
            lines.append(line)
            if "url=" in line:
                found.set()
        found.set()

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        assert found.wait(300)
        url = re.search(r"url=(\S+)", "".join(lines))
        assert url, "".join(lines)
        yield process, url[1]
    finally:
        process.kill()
        process.wait()
        thread.join()
        stderr_of(process).close()
        if process.stdout is not None:
            process.stdout.close()


def test_sigterm_finishes_accepted_requests_and_exits_with_0(
    tmp_path: Path, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    with serving(tmp_path, "--max-batch", "1") as (process, url):
        httpx.put(f"{url}/adapters/cells", content=make_adapter(1)).raise_for_status()
        files = [("file", (f"{i}.png", make_png(i, (1200, 1000)))) for i in range(48)]
        answers: list[httpx.Response] = []
        ask = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/predict?adapter=cells", files=files, timeout=300))
        )
        ask.start()
        while "lensmount_batch_size_count 0.0" in httpx.get(f"{url}/metrics").text:
            assert ask.is_alive()
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0
        ask.join()

    assert answers[0].status_code == 200
    assert len(answers[0].json()["results"]) == 48


def test_acknowledged_uploads_survive_kill_9(tmp_path: Path, make_adapter: MakeAdapter) -> None:
    acknowledged: dict[str, str] = {}
    for round_ in range(2):
        with serving(tmp_path) as (process, url):
            listed = {a["name"]: a["digest"] for a in httpx.get(f"{url}/adapters").json()["adapters"]}
            assert acknowledged.items() <= listed.items()
            enough = len(acknowledged) + 5

            def kill(process: subprocess.Popen[str] = process, enough: int = enough) -> None:
                while len(acknowledged) < enough:  # then the next upload is in progress
                    time.sleep(0.001)
                process.kill()

            killer = threading.Thread(target=kill)
            killer.start()
            try:
                for number in range(1000):
                    name = f"task-{round_}-{number}"
                    made = httpx.put(f"{url}/adapters/{name}", content=make_adapter(round_ * 1000 + number))
                    acknowledged[name] = made.json()["digest"]
            except httpx.TransportError:
                pass
            killer.join()
    with serving(tmp_path) as (_, url):
        for name, digest in acknowledged.items():
            assert httpx.get(f"{url}/adapters/{name}/file").headers["ETag"] == f'"{digest}"'
    assert len(acknowledged) >= 10


REFUSALS = {
    "another address without a token": (["--host", "0.0.0.0"], "expected a token"),
    "an unknown backbone": (["--backbone", "resnet34x"], "found no timm model named 'resnet34x'"),
    "missing weights": (["--weights", "nowhere.safetensors"], "found no weights file nowhere.safetensors"),
    "a port beyond all ports": (["--port", "70000"], "--port"),
    "an unknown dtype": (["--dtype", "int8"], "--dtype"),
}


WRONG_SETTINGS = ("another address without a token", "a port beyond all ports", "an unknown dtype")


@pytest.mark.parametrize("case", REFUSALS)
def test_a_wrong_start_ends_at_once_with_one_line(tmp_path: Path, case: str) -> None:
    options, line = REFUSALS[case]

    ended = subprocess.run(
        [*SERVE, *SMALL, "--state", str(tmp_path), *options], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 78
    assert line in ended.stderr
    assert "Traceback" not in ended.stderr
    *progress, error = ended.stderr.strip().splitlines()
    assert line in error
    assert all(text.endswith(" ...") for text in progress)
    assert not (case in WRONG_SETTINGS and progress)


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [*SERVE, *SMALL, "--state", str(tmp_path), "--port", port], capture_output=True, text=True, timeout=300
        )
    assert ended.returncode == 78
    (line,) = ended.stderr.strip().splitlines()
    assert f"127.0.0.1:{port}: Address already in use. Fix: choose another port with --port" in line


def test_a_taken_port_is_reported_before_torch_is_imported() -> None:
    script = (
        "import atexit, sys; from lensmount_client._cli.main import main; "
        "atexit.register(lambda: print('torch' in sys.modules)); "
        "main(['serve', '--port', sys.argv[1]])"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run([sys.executable, "-c", script, port], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout.strip()) == (78, "False")


@contextmanager
def starting(state: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A server process whose output is read line by line."""
    process = subprocess.Popen(
        [*SERVE, *SMALL, "--state", str(state), *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        stderr_of(process).close()


def test_a_start_is_reported_step_by_step_and_ctrl_c_is_one_line(tmp_path: Path) -> None:
    with starting(tmp_path) as process:
        lines = []
        for line in stderr_of(process):
            lines.append(line)
            if line.startswith("Ready"):
                break
        plain = [line for line in lines if not line.startswith("20")]  # log lines begin with a time
        assert [line.split()[0] for line in plain] == ["Lensmount", "Loading", "Preparing", "Ready"]
        ready = re.search(r"Ready at (\S+):", plain[-1])
        assert ready is not None
        url = ready[1]
        assert f"starts at {url}. " in plain[0]
        assert httpx.get(f"{url}/health/ready").status_code == 200

        process.send_signal(signal.SIGINT)
        rest = stderr_of(process).read().splitlines()
        assert process.wait(300) == 0
    assert [line for line in rest if not line.startswith("20")] == [
        "Stopping after accepted requests are finished. Press Ctrl-C again to stop at once."
    ]


def test_ctrl_c_while_loading_is_one_line(tmp_path: Path) -> None:
    with starting(tmp_path) as process:
        first = stderr_of(process).readline()
        assert first.startswith("Lensmount starts at http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        assert stderr_of(process).read().strip() == "Stopped."
        assert process.wait(300) == 130


def test_with_json_logs_every_line_is_json(tmp_path: Path) -> None:
    with starting(tmp_path, "--log-format", "json") as process:
        for line in stderr_of(process):
            if (entry := json.loads(line))["event"] == "serving":
                break
        assert (
            httpx.get(f"{entry['url']}/health/ready", timeout=60).status_code == 200
        )  # the request waits in the backlog
        process.send_signal(signal.SIGTERM)
        for line in stderr_of(process).read().splitlines():
            json.loads(line)
        assert process.wait(300) == 0


def test_a_slow_client_that_disconnects_leaves_nothing_behind(
    tmp_path: Path, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    with serving(tmp_path) as (_, url):
        httpx.put(f"{url}/adapters/cells", content=make_adapter(1)).raise_for_status()
        host, port = url.removeprefix("http://").split(":")
        for _ in range(20):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(
                    b"POST /predict?adapter=cells HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\nhalf"
                )
        while 'adapter="cells",code="499"} 20.0' not in (metrics := httpx.get(f"{url}/metrics").text):
            assert 'code="500"' not in metrics
        assert httpx.post(f"{url}/predict?adapter=cells", content=make_png()).status_code == 200
        assert 'lensmount_inflight{adapter="cells"} 0.0' in httpx.get(f"{url}/metrics").text
