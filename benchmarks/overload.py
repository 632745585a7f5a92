"""What a server does when it gets five times as many requests as it can answer.

First the capacity is measured (16 connections that never pause), then requests arrive at random (a Poisson process,
open loop) at 70 % of it and at `--times` as much. The promises under overload:

* the p99 of what is answered is at most twice the p99 at 70 % load, plus the time in which a full queue is computed;
* goodput: at least 90 % of the capacity is still answered with 200;
* each refusal is 429 or 503 and has a Retry-After, and a request that waits as long is answered once the load is over.

The sender is a process of its own with the lowest priority; it stands for other machines.

    python benchmarks/overload.py [--duration 10] [--rounds 3] [--times 5]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from shared import machine, process  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root

SERVE = (sys.executable, "-m", "lensmount_client", "serve", "--log-level", "warning")
CLOSED = 16  # connections that measure the capacity
MOST_CONNECTIONS = 600
NOT_SENT = 0  # instead of a status: all connections are waiting for answers
MAX_QUEUE = 256  # the server's default


def request() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (160, 160, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer := io.BytesIO(), "JPEG", quality=80)
    body = buffer.getvalue()
    head = f"POST /predict?adapter=malaria HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Sender:
    """Keeps connections open and gives each to one request at a time. Notes status, seconds and Retry-After of each."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._request = request()
        self._open = 0
        self.answers: list[tuple[int, float, str]] = []

    async def send(self) -> None:
        started = time.perf_counter()
        if not self._free and self._open >= MOST_CONNECTIONS:
            self.answers.append((NOT_SENT, 0.0, ""))
            return
        if not self._free:
            self._open += 1
        try:
            reader, writer = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(self._request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            fields = dict(line.split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
            await reader.readexactly(int(fields["content-length"]))
        except (OSError, asyncio.IncompleteReadError):
            self._open -= 1
            self.answers.append((-1, time.perf_counter() - started, ""))
            return
        if fields.get("connection") == "close":
            self._open -= 1
            writer.close()
        else:
            self._free.append((reader, writer))
        status = int(head.split(" ", 2)[1])
        self.answers.append((status, time.perf_counter() - started, fields.get("retry-after", "")))


async def closed_loop(sender: Sender, seconds: float) -> None:
    ends = time.perf_counter() + seconds

    async def again() -> None:
        while time.perf_counter() < ends:
            await sender.send()

    await asyncio.gather(*(again() for _ in range(CLOSED)))


async def open_loop(sender: Sender, seconds: float, rate: float) -> None:
    draw, sent = random.Random(0), list[asyncio.Task[None]]()
    begin = due = time.perf_counter()
    while due < begin + seconds:
        if (pause := due - time.perf_counter()) > 0:
            await asyncio.sleep(pause)
        sent.append(asyncio.create_task(sender.send()))
        due += draw.expovariate(rate)
    await asyncio.gather(*sent)


def send(port: int, seconds: float, rate: float) -> None:
    """The sending process: prints its answers as JSON."""
    os.nice(19)
    with contextlib.suppress(OSError):  # Linux may share the processor between sessions first
        Path("/proc/self/autogroup").write_text("19")
    sender = Sender(port)
    asyncio.run(open_loop(sender, seconds, rate) if rate else closed_loop(sender, seconds))
    json.dump(sender.answers, sys.stdout)


def answers(port: int, seconds: float, rate: float) -> list[tuple[int, float, str]]:
    command = [sys.executable, __file__, "--send", str(port), "--duration", str(seconds), "--rate", str(rate)]
    done = subprocess.run(command, stdout=subprocess.PIPE, start_new_session=True, check=True)
    found: list[tuple[int, float, str]] = [tuple(each) for each in json.loads(done.stdout)]
    return found


def accepted(found: Sequence[tuple[int, float, str]]) -> list[float]:
    return sorted(seconds for status, seconds, _ in found if status == 200)


def p99(took: Sequence[float]) -> float:
    return took[math.ceil(0.99 * len(took)) - 1]


def measure(port: int, options: argparse.Namespace) -> dict[str, float]:
    capacity = len(accepted(answers(port, options.duration, 0))) / options.duration
    usual = accepted(answers(port, options.duration, 0.7 * capacity))
    begin = time.perf_counter()
    found = answers(port, options.duration, options.times * capacity)
    took = time.perf_counter() - begin
    good, refused = accepted(found), [each for each in found if each[0] not in (200, NOT_SENT)]
    bound = 2 * p99(usual) + MAX_QUEUE / capacity
    waits = [float(after) for _, _, after in refused if after]
    time.sleep(max(waits, default=0.0))
    later = answers(port, 1.0, 1.0)
    figures = {
        "p99 / bound": p99(good) / bound,
        "goodput": len(good) / min(took, options.duration + MAX_QUEUE / capacity) / capacity,
        "without Retry-After": sum(not after for _, _, after in refused) / max(1, len(refused)),
    }
    print(
        f"capacity {capacity:.0f}/s; p99 at 70 % {1e3 * p99(usual):.0f} ms, at {options.times:g} times "
        f"{1e3 * p99(good):.0f} ms (bound {1e3 * bound:.0f}); goodput {figures['goodput']:.2f}; statuses "
        f"{dict(Counter(status for status, _, _ in found))}; Retry-After {min(waits, default=0):g} to "
        f"{max(waits, default=0):g} s, missing {figures['without Retry-After']:.3f}; after that wait "
        f"{dict(Counter(status for status, _, _ in later))}",
        flush=True,
    )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=float, default=5.0, help="the overload in capacities")
    parser.add_argument("--send", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send:
        send(options.send, options.duration, options.rate)
        return
    print(machine.describe(), flush=True)
    every: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        port = process.free_port()
        command = [*SERVE, "--state", str(Path(folder) / "state"), "--port", str(port)]
        with process.running(command, port, "/health/ready", Path(folder) / "log"):
            answers(port, 3.0, 0)
            every = [measure(port, options) for _ in range(options.rounds)]
    for name in every[0]:
        values = [figures[name] for figures in every]
        print(f"{name}: {min(values):.2f} / {statistics.median(values):.2f} / {max(values):.2f} (min, median, max)")


if __name__ == "__main__":
    main()
