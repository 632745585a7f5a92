"""Training while serving: time from the push of a folder to the first prediction, and the latency of other callers.

The script starts `lensmount serve --with-worker` with its default settings and a new state folder. One caller sends one
image after the other to another adapter: first while the worker is idle, then while a job trains, is published and
answers its first request. Every answer of the other adapter must be bit-identical to those before.

    python benchmarks/job.py [--data ../shared/data/malaria-nih] [--rounds 3] [--idle-s 20]
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from shared import machine  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root

from lensmount_client import Client

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "samples" / "cell-parasitized.png"
OPTIONS = {
    "group_regex": r"^(.*?)_?[tT]hin",
    "augment": "microscopy",
    "size": 160,
    "batch_size": 16,
    "epochs": 12,
    "validation_fraction": 0.1,
    "test_fraction": 0.2,
    "force": True,
}


@dataclass
class Round:
    """Seconds from the push to each milestone, and the latencies in ms of a caller, idle and during the job."""

    pushed: float = 0.0
    trained: float = 0.0
    answered: float = 0.0
    test: float = 0.0
    idle: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/malaria-nih"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle-s", type=float, default=20.0)
    options = parser.parse_args()
    print(machine.describe())
    rounds = [measure(options.data, options.idle_s) for _ in range(options.rounds)]
    print("\n| figure | min | median | max |\n|---|---:|---:|---:|")
    rows = {
        "push, s": [r.pushed for r in rounds],
        "push to job done, s": [r.trained for r in rounds],
        "push to first prediction, s": [r.answered for r in rounds],
        "balanced accuracy, test": [r.test for r in rounds],
        "p50 idle, ms": [quantile(r.idle, 0.5) for r in rounds],
        "p50 during the job, ms": [quantile(r.beside, 0.5) for r in rounds],
        "p95 idle, ms": [quantile(r.idle, 0.95) for r in rounds],
        "p95 during the job, ms": [quantile(r.beside, 0.95) for r in rounds],
        "p95 during the job / idle": [quantile(r.beside, 0.95) / quantile(r.idle, 0.95) for r in rounds],
    }
    for name, values in rows.items():
        print(f"| {name} | {min(values):.2f} | {statistics.median(values):.2f} | {max(values):.2f} |")
    print(f"\n{sum(len(r.beside) for r in rounds):,} answers during the jobs, all bit-identical to those before")


def measure(data: Path, idle_s: float) -> Round:
    found = Round()
    with tempfile.TemporaryDirectory() as state, serving(Path(state)) as url, Client(url) as client:
        answer_once = caller(url)
        expected = answer_once()[1]
        end = time.monotonic() + idle_s
        while time.monotonic() < end:
            milliseconds, scores = answer_once()
            found.idle.append(milliseconds)
            check(scores, expected)
        done = threading.Event()
        failures: list[BaseException] = []

        def keep_asking() -> None:
            ask = caller(url)
            try:
                while not done.is_set():
                    milliseconds, scores = ask()
                    found.beside.append(milliseconds)
                    check(scores, expected)
            except BaseException as error:
                failures.append(error)

        started = time.monotonic()
        client.datasets.push(data, name="cells")
        found.pushed = time.monotonic() - started
        thread = threading.Thread(target=keep_asking)
        thread.start()
        job = client.jobs.submit("cells", "fresh", **OPTIONS).wait()  # type: ignore[arg-type]  # one dict of options
        found.trained = time.monotonic() - started
        client.predict(SAMPLE, adapter="fresh")
        found.answered = time.monotonic() - started
        done.set()
        thread.join()
        if failures:
            raise failures[0]
        assert job.result is not None
        found.test = job.result.metrics["test"]["balanced_accuracy"]
    print(f"push {found.pushed:.1f} s, first prediction after {found.answered:.1f} s", flush=True)
    return found


def caller(url: str):  # type: ignore[no-untyped-def]  # returns a function that keeps one connection
    connection = httpx.Client(base_url=url)
    image = SAMPLE.read_bytes()

    def ask() -> tuple[float, object]:
        started = time.perf_counter()
        response = connection.post("/predict", params={"adapter": "malaria@1"}, content=image)
        milliseconds = (time.perf_counter() - started) * 1000
        response.raise_for_status()
        return milliseconds, response.json()["predictions"]

    return ask


def check(found: object, expected: object) -> None:
    if found != expected:
        raise SystemExit(f"an answer changed: found {found}, expected {expected}")


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@contextmanager
def serving(state: Path) -> Iterator[str]:
    """Yields the URL of a server with a worker once both have finished their imports."""
    port = 18000 + os.getpid() % 1000
    url = f"http://127.0.0.1:{port}"
    log = state / "log.txt"
    command = [sys.executable, "-m", "lensmount_client", "serve", "--with-worker", "--port", str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen([*command, "--state", str(state)], stdout=file, stderr=subprocess.STDOUT)
    try:
        give_up = time.monotonic() + 180
        while "working" not in (said := log.read_text(errors="replace")) or "serving" not in said:
            if process.poll() is not None or time.monotonic() > give_up:
                raise SystemExit(f"the server did not start:\n{said}")
            time.sleep(0.2)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


if __name__ == "__main__":
    main()
