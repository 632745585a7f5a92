"""From a JPEG over HTTP to scores: `lensmount serve` on the card under the load of `lensmount bench`."""

from __future__ import annotations

import math
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from lensmount_client._bench.connection import Body
from lensmount_client._bench.load import Load, Mix, Target
from lensmount_client._bench.summary import Summary

from . import goals
from .bench import Bench
from .decode import jpeg
from .network import TINY, adapter_files, load

READY_S = 60.0  # start, load, capture
OPTIONS = {"device": "cuda", "executor": "cudagraphs", "precision": "bfloat16", "max-batch": "64"}
ZOO = ("histology", "malaria", "smoking")  # shipped with the default backbone


def measure(bench: Bench) -> None:
    with TemporaryDirectory() as state:
        if bench.dry:
            with app_in_this_process(Path(state)) as url:
                ask(bench, url, ("random-0", "random-1"), (1,))
        else:
            with server_process(bench, Path(state)) as url:
                ask(bench, url, ZOO, (1, 64))


def ask(bench: Bench, url: str, adapters: Sequence[str], connections: Sequence[int]) -> None:
    """One adapter on every number of connections, all adapters on the highest."""
    seconds, warm_up_s = (0.2, 0.0) if bench.dry else (8.0, 2.0)
    single = 0.0
    for count in connections:
        single = load_of(bench, url, adapters[:1], count, seconds, warm_up_s)
    many = load_of(bench, url, adapters, connections[-1], seconds, warm_up_s)
    ratio = many / single if single else math.nan
    bench.row(f"{len(adapters)} adapters / one", ratio, "times", goals.HTTP_MANY_TO_ONE)


def load_of(
    bench: Bench, url: str, adapters: Sequence[str], connections: int, seconds: float, warm_up_s: float
) -> float:
    """Requests per second. One client process is an upper limit on what can be asked."""
    load = Load(
        url,
        [Target(name, f"/predict?adapter={name}") for name in adapters],
        [Body.multipart(jpeg(250, 250), "0.jpg")],
        connections=connections,
        duration_s=seconds,
        warmup_s=warm_up_s,
        mix=Mix.uniform,
    )
    found = Summary.of(load.run()).all
    where = f"{connections} connections, {len(adapters)} adapters"
    goal = goals.HTTP_RATE if connections > 1 else goals.NONE
    bench.row(f"{where}: requests", found.per_s, "1/s", goal)
    bench.row(f"{where}: failed requests", found.failed, "", goals.HTTP_FAILED)
    if found.latency is not None:
        bench.row(f"{where}: p50", found.latency.p50, "ms")
        bench.row(f"{where}: p95", found.latency.p95, "ms")
    return found.per_s


@contextmanager
def server_process(bench: Bench, state: Path) -> Iterator[str]:
    """`lensmount serve` as a user starts it; its log is `server.txt` in the run's folder."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "lensmount_client", "serve", "--port", str(port), "--state", str(state)]
    command += [word for name, value in OPTIONS.items() for word in (f"--{name}", value)]
    log = bench.table.folder / "server.txt"
    started = time.monotonic()
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
    try:
        if not _is_ready(url, process, min(READY_S, bench.left_s())):
            raise RuntimeError(f"lensmount serve did not become ready: {log.read_text()[-500:]}")
        bench.row("start to ready", time.monotonic() - started, "s")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def app_in_this_process(state: Path) -> Iterator[str]:
    """The real app with a tiny backbone and two random adapters: a dry run has no time to start a process."""
    import uvicorn

    from lensmount_service.build import open_parts
    from lensmount_service.settings import Settings

    Settings.model_validate({name.replace("-", "_"): value for name, value in OPTIONS.items()})
    backbone = load(TINY, torch.device("cpu"))
    settings = Settings(state=state, zoo=False, executor="eager", threads=torch.get_num_threads())
    with open_parts(settings, backbone) as parts:
        for seed, data in enumerate(adapter_files(backbone, TINY, 2)):
            parts.catalog.upload(f"random-{seed}", data)
        server = uvicorn.Server(uvicorn.Config(parts.app, port=0, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _is_ready(url: str, process: subprocess.Popen[bytes], limit_s: float) -> bool:
    ends_at = time.monotonic() + limit_s
    while time.monotonic() < ends_at and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=1):
                return True  # any status but 200 raises
        except OSError:
            time.sleep(0.1)
    return False
