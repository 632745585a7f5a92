"""`lensmount serve` as a process: start, signals, restarts."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakePng

SERVE = [sys.executable, "-m", "lensmount_client", "serve"]
SMALL = ["--backbone", "resnet10t", "--weights", "random:0", "--no-zoo", "--port", "0", "--executor", "eager"]


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
        image = make_png(0, (1200, 1000))
        files = [("file", (f"{i}.png", image)) for i in range(48)]
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


def test_what_outlives_the_drain_is_told_so_and_the_process_ends_with_0(
    tmp_path: Path, make_adapter: MakeAdapter, make_png: MakePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENSMOUNT_DRAIN_TIMEOUT_S", "0")
    with serving(tmp_path, "--max-batch", "1") as (process, url):
        for number in range(4):
            httpx.put(f"{url}/adapters/cells-{number}", content=make_adapter(number)).raise_for_status()
        asked = f"{url}/predict?adapter=cells-0,cells-1,cells-2,cells-3"
        files = [("file", (f"{i}.png", make_png(i))) for i in range(64)]  # 256 batches
        answers: list[httpx.Response] = []
        ask = threading.Thread(target=lambda: answers.append(httpx.post(asked, files=files, timeout=300)))
        ask.start()
        while "lensmount_batch_size_count 0.0" in httpx.get(f"{url}/metrics").text:
            assert ask.is_alive()
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0
        ask.join()

    assert (answers[0].status_code, answers[0].json()["code"]) == (503, "draining")
    assert answers[0].headers["Retry-After"] == "5"


def test_acknowledged_uploads_survive_kill_9(tmp_path: Path, make_adapter: MakeAdapter) -> None:
    acknowledged: dict[str, str] = {}
    for round_ in range(2):
        with serving(tmp_path) as (process, url):
            listed = {a["name"]: a["digest"] for a in httpx.get(f"{url}/adapters").json()["adapters"]}
            assert acknowledged.items() <= listed.items()
            enough = threading.Event()

            def kill(process: subprocess.Popen[str] = process, enough: threading.Event = enough) -> None:
                enough.wait(300)  # an upload is then in progress
                process.kill()

            killer = threading.Thread(target=kill)
            killer.start()
            try:
                for number in range(1000):
                    name, data = f"task-{round_}-{number}", make_adapter(round_ * 1000 + number)
                    if number == 5:
                        enough.set()
                    acknowledged[name] = httpx.put(f"{url}/adapters/{name}", content=data).json()["digest"]
            except httpx.TransportError:
                pass
            killer.join()
    with serving(tmp_path) as (_, url):
        for name, digest in acknowledged.items():
            assert httpx.get(f"{url}/adapters/{name}/file").headers["ETag"] == f'"{digest}"'
    assert len(acknowledged) >= 10


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
