"""Memory of `lensmount datasets push`: what server and client hold while datasets of several sizes are pushed.

Each size has its own server, which has first been sent a small dataset, and its own client. The images are drawn, JPEG,
all different. Every 0.2 s the resident memory of both is read. The client is compared with its own `--version`.

    python benchmarks/push.py [--images 500 2000 5000] [--side 170]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from shared import process, results  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root

EVERY_S = 0.2
MB = 1e6
LENSMOUNT = (sys.executable, "-m", "lensmount_client")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[500, 2000, 5000])
    parser.add_argument("--side", type=int, default=170, help="pixels of an image's side")
    options = parser.parse_args()
    print(results.described())
    print("\n| images | bytes, MB | server: peak beyond its start, MB | client: peak, MB | seconds |")
    print("|---:|---:|---:|---:|---:|")
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            print(row(Path(folder), count, options.side), flush=True)


def row(folder: Path, count: int, side: int) -> str:
    draw(folder / "small", 20, side)
    size = draw(folder / "data", count, side)
    port = process.free_port()
    command = [*LENSMOUNT, "serve", "--port", str(port), "--state", str(folder / "state")]
    command += ["--backbone", "resnet10t", "--weights", "random:0"]
    with process.running(command, port, "/health/ready", folder / "log.txt", {"OMP_NUM_THREADS": "1"}) as server:
        push(server, folder / "small", "small")
        start = server.memory().rss
        begin = time.perf_counter()
        peak, client = push(server, folder / "data", "data")
        seconds = time.perf_counter() - begin
    return f"| {count:,} | {size / MB:.0f} | {(peak - start) / MB:.0f} | {client / MB:.0f} | {seconds:.0f} |"


def push(server: process.Server, data: Path, name: str) -> tuple[int, int]:
    """Push a folder; returns the peaks of the resident bytes of the server and of the client."""
    command = [*LENSMOUNT, "datasets", "push", str(data), "--name", name, "--url", server.url]
    client = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ)
    peaks = (0, 0)
    while client.poll() is None:
        now = (server.memory().rss, process.Memory.of(client.pid).rss)
        peaks = (max(peaks[0], now[0]), max(peaks[1], now[1]))
        time.sleep(EVERY_S)
    if client.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {client.returncode}")
    return peaks


def draw(folder: Path, count: int, side: int) -> int:
    """Two classes of images of noise on a gradient; returns their bytes."""
    random = np.random.default_rng(0)
    total = 0
    for number in range(count):
        path = folder / ("ant", "bee")[number % 2] / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path, quality=75)
        total += path.stat().st_size
    return total


if __name__ == "__main__":
    main()
