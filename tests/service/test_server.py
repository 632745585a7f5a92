"""`lensmount serve` as a process: it finishes what it accepted. tests/service/kills restarts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import httpx
import numpy as np
import pytest

from lensmount_service import server
from lensmount_service.errors import Unavailable
from lensmount_service.settings import Settings

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakePng
    from tests.service.known_machine import KnownMachine

SERVE = [sys.executable, "-m", "lensmount_client", "serve", "--log-format", "json", "--max-batch", "1"]
SMALL = ["--backbone", "test_resnet", "--weights", "random:0", "--no-zoo", "--port", "0", "--executor", "eager"]


@dataclass(frozen=True)
class Ended:
    """A server that got SIGTERM while it computed: its exit status, all that it logged, and its last answer."""

    status: int
    lines: list[str]
    answer: httpx.Response


@pytest.fixture(scope="module")
def ended(
    machine: KnownMachine, tmp_path_factory: pytest.TempPathFactory, make_adapter: MakeAdapter, make_png: MakePng
) -> Ended:
    images = [make_png(seed) for seed in range(64)]
    machine.prepare(state := tmp_path_factory.mktemp("state"))
    return ended_while_computing(state, [make_adapter(1)], images)


def ended_while_computing(state: Path, adapters: list[bytes], images: list[bytes], **env: str) -> Ended:
    process = subprocess.Popen(
        [*SERVE, *SMALL, "--state", str(state)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **env},
    )
    answers: list[httpx.Response] = []
    try:
        lines = []
        for line in stderr_of(process):
            lines.append(line)
            if (entry := json.loads(line))["event"] == "serving":
                break
        url = entry["url"]
        names = [f"cells-{number}" for number in range(len(adapters))]
        for name, adapter in zip(names, adapters, strict=True):
            httpx.put(f"{url}/adapters/{name}", content=adapter, timeout=60).raise_for_status()
        asked = f"{url}/predict?adapter={','.join(names)}"
        files = [("file", (f"{i}.png", image)) for i, image in enumerate(images)]
        ask = threading.Thread(target=lambda: answers.append(httpx.post(asked, files=files, timeout=300)))
        ask.start()
        while "lensmount_batch_size_count 0.0" in httpx.get(f"{url}/metrics").text:
            assert ask.is_alive()
        process.send_signal(signal.SIGTERM)
        lines += stderr_of(process).readlines()
        ask.join()
        return Ended(process.wait(300), lines, answers[0])
    finally:
        process.kill()
        process.wait()
        stderr_of(process).close()


def stderr_of(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stderr is not None
    return process.stderr


def test_sigterm_finishes_accepted_requests_and_exits_with_0(ended: Ended) -> None:
    assert ended.status == 0
    assert ended.answer.status_code == 200
    assert len(ended.answer.json()["results"]) == 64


def test_with_json_logs_every_line_is_json(ended: Ended) -> None:
    assert len([json.loads(line) for line in ended.lines]) >= 2


def test_what_outlives_the_drain_is_told_so_and_the_process_ends_with_0(
    machine: KnownMachine, tmp_path: Path, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    machine.prepare(tmp_path)
    adapters, images = [make_adapter(seed) for seed in range(4)], [make_png(seed) for seed in range(64)]
    ended = ended_while_computing(tmp_path, adapters, images, LENSMOUNT_DRAIN_TIMEOUT_S="0")

    assert ended.status == 0
    assert (ended.answer.status_code, ended.answer.json()["code"]) == (503, "draining")
    assert ended.answer.headers["Retry-After"] == "5"


def test_sigterm_finishes_accepted_grpc_calls_as_well(
    machine: KnownMachine, tmp_path: Path, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    machine.prepare(tmp_path)
    triton = pytest.importorskip("tritonclient.grpc", reason='needs tritonclient: pip install "lensmount[dev]"')
    answers: list[int] = []
    process = subprocess.Popen(
        [*SERVE, *SMALL, "--grpc-port", "0", "--state", str(tmp_path)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )

    def ask(port: int) -> None:
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
            image = triton.InferInput("image", [64], "BYTES")
            image.set_data_from_numpy(np.array([make_png(seed) for seed in range(64)], dtype=object))
            answers.append(len(client.infer("cells", [image]).as_numpy("label")))

    try:
        entry, url = {"event": ""}, ""
        while entry["event"] != "serving gRPC":
            entry = json.loads(stderr_of(process).readline())
            url = entry.get("url", url)
        httpx.put(f"{url}/adapters/cells", content=make_adapter(1), timeout=60).raise_for_status()
        asking = threading.Thread(target=ask, args=[entry["port"]])
        asking.start()
        while "lensmount_batch_size_count 0.0" in httpx.get(f"{url}/metrics").text:
            assert asking.is_alive()
        process.send_signal(signal.SIGTERM)
        asking.join()
        assert (answers, process.wait(300)) == ([64], 0)
    finally:
        process.kill()
        process.wait()
        stderr_of(process).close()


def test_without_its_library_grpc_is_refused_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "lensmount_service.oip.grpc_server", raising=False)
    monkeypatch.setitem(sys.modules, "grpc_reflection.v1alpha", None)
    monkeypatch.setattr(server, "open_parts", lambda *_: pytest.fail("the backbone is loaded"))
    with pytest.raises(
        Unavailable, match=r'--grpc-port needs the package grpc_reflection\S*\. Fix: pip install "lensmount\[grpc\]"'
    ):
        server.serve(Settings(state=tmp_path / "none", port=0, grpc_port=0))
    assert not (tmp_path / "none").exists()
