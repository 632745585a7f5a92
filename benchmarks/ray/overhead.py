"""What the door and Ray add to a request, and whether batches stay as full as on one server.

    python -m benchmarks.ray.overhead [--requests 400] [--adapters 12] [--clients 64] [--seconds 10] [--replicas 2]

1. One client asks one server and the door in turn. The goal: at most 6 ms more at p50, on an idle machine.
2. `--clients` ask for `--adapters` adapters, first one server, then the door with its replicas, three times in turn.
   The goals: images per engine batch at least 0.8 times those of one server, and no more loads than adapters times
   replicas. More clients than two batches hold keep all queues full, which is the same load for both.

All engines have one thread and share this machine.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from benchmarks.ray.fleet import IMAGE, figure, serving
from benchmarks.shared import machine, process

BATCHES, IMAGES = "lensmount_batch_size_count", "lensmount_batch_size_sum"
LOADS = "lensmount_adapter_load_seconds_count"


def in_turn(bare: str, door: str, requests: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each request, of one client with one connection to each."""
    taken: tuple[list[float], list[float]] = ([], [])
    with httpx.Client(base_url=bare, timeout=60) as one, httpx.Client(base_url=door, timeout=60) as other:
        for _ in range(requests):
            for client, found in zip((one, other), taken, strict=True):
                started = time.perf_counter()
                client.post("/predict?adapter=task0", content=IMAGE).raise_for_status()
                found.append(1e3 * (time.perf_counter() - started))
    return taken


def processor_ms(url: str, pid: int, requests: int) -> float:
    """Milliseconds of processor time of all processes of a server, for each request of one client.

    Unlike the time of a request, it hardly depends on what else the machine does.
    """
    before = process.processor_s(pid)
    with httpx.Client(base_url=url, timeout=60) as client:
        for _ in range(requests):
            client.post("/predict?adapter=task0", content=IMAGE).raise_for_status()
    return 1e3 * (process.processor_s(pid) - before) / requests


def under_load(url: str, clients: int, adapters: int, seconds: float) -> tuple[float, float]:
    """Answers a second, and images per batch."""
    ends = time.monotonic() + seconds
    counts = [0] * clients

    def ask(number: int) -> None:
        with httpx.Client(base_url=url, timeout=120) as client:
            while time.monotonic() < ends:
                adapter = f"task{(number + counts[number]) % adapters}"
                client.post(f"/predict?adapter={adapter}", content=IMAGE).raise_for_status()
                counts[number] += 1

    before = figure(url, IMAGES), figure(url, BATCHES)
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    images, batches = figure(url, IMAGES) - before[0], figure(url, BATCHES) - before[1]
    return sum(counts) / seconds, images / max(batches, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--adapters", type=int, default=12)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--replicas", type=int, default=2)
    options = parser.parse_args()
    print(machine.describe())
    with TemporaryDirectory() as folder, serving(Path(folder), options.adapters, options.replicas) as servers:
        bare, door = (server.url for server in servers)
        in_turn(bare, door, 50)
        one, other = (statistics.quantiles(found, n=20) for found in in_turn(bare, door, options.requests))
        print(f"one client: server p50 {one[9]:.1f} ms p95 {one[18]:.1f}, door p50 {other[9]:.1f} p95 {other[18]:.1f}")
        print(f"added at p50: {other[9] - one[9]:.1f} ms (goal: at most 6)")
        own, all_of_ray = (processor_ms(server.url, server.pid, options.requests) for server in servers)
        print(f"processor time of a request: server {own:.1f} ms, door and replicas {all_of_ray:.1f} ms")
        for _ in range(3):
            for name, url in (("server", bare), ("door", door)):
                rate, size = under_load(url, options.clients, options.adapters, options.seconds)
                print(f"{options.clients} clients, {name}: {rate:.0f} answers/s, {size:.1f} images per batch")
        print(f"loads: server {figure(bare, LOADS):.0f}, all replicas {figure(door, LOADS):.0f}")


if __name__ == "__main__":
    main()
