"""A real server with many adapters, under load: what the simulation is measured from and compared with."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import numpy as np
from benchmarks.scale.variants import variants
from benchmarks.shared import process
from PIL import Image

from lensmount_client import Client
from lensmount_client._bench.connection import Body
from lensmount_client._bench.load import Load, Mix, Target

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "LENSMOUNT_INT8": "false"}  # int8 would come a minute after the start
SIDE, QUALITY = 250, 90


@contextmanager
def serving(adapters: int) -> Iterator[process.Server]:
    """A server on a fresh state folder, with this many adapters `histology-0`, `histology-1`, ..."""
    port = process.free_port()
    with TemporaryDirectory(prefix="lensmount-scale-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "lensmount_client", "serve", "--port", str(port), "--threads", "1"]
        command += ["--state", str(folder / "state"), "--log-level", "warning"]
        with process.running(command, port, "/health/ready", folder / "log.txt", ENVIRONMENT) as server:
            with Client(server.url) as client:
                for adapter, data in variants(adapters).items():
                    (file := folder / f"{adapter}.safetensors").write_bytes(data)
                    client.adapters.push(file)
            yield server


def bodies(count: int = 8) -> list[Body]:
    """JPEGs of smooth noise, as large as photographs of their size."""
    found = []
    for seed in range(count):
        coarse = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        image.save(buffer := io.BytesIO(), "JPEG", quality=QUALITY)
        found.append(Body.raw(buffer.getvalue()))
    return found


def load(url: str, adapters: int, mix: Mix, **given: float) -> Load:
    """A load on the first `adapters` adapters."""
    targets = [Target(str(number), f"/predict?adapter=histology-{number}") for number in range(adapters)]
    settings = {"connections": 1, "duration_s": 8.0, "warmup_s": 4.0} | given
    return Load(url, targets, bodies(), mix=mix, **settings)  # type: ignore[arg-type]  # by name


def batches_of(server: process.Server) -> tuple[float, float]:
    """Images and batches that the engine computed so far."""
    with urlopen(f"{server.url}/metrics") as answer:
        lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[:1] != "#")
    return float(lines["lensmount_batch_size_sum"]), float(lines["lensmount_batch_size_count"])


def processor_s(server: process.Server, work: Load) -> tuple[float, float, Sequence[float]]:
    """Run the load. Returns answers per second, the server's processor seconds for each, and their latencies."""
    before, begin = process.processor_s(server.pid), time.perf_counter()
    samples = work.run().samples
    used, took = process.processor_s(server.pid) - before, time.perf_counter() - begin
    failed = [sample.error for sample in samples if sample.error is not None]
    if failed:
        raise SystemExit(f"{len(failed)} requests failed, the first with: {failed[0]}")
    seconds = sorted(sample.end - sample.start for sample in samples[len(samples) // 3 :])
    return len(samples) / took, used / len(samples), seconds
