"""A quiet client's latency while each attack runs, and the server's memory before and after it.

The quiet client sends one small image after the other to `malaria`, over one connection. First it is alone; then each
attack runs as well for `--duration` seconds. The promise: its p99 during an attack is at most twice its p99 alone,
and the server's resident memory returns to within 10 % of what it was.

Each attack is a process of its own with the lowest priority. It stands for other machines: it gets the processor time
that the server and the quiet client leave, so that what is measured is the server's work and not the attacker's.
Rounds alone and rounds under attack alternate; the smallest, the median and the largest p99 are printed.

    python benchmarks/attacks.py [--duration 5] [--rounds 5] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from shared import machine, process  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root

MB = 2**20
SETTLE_S = 5.0
SERVE = (sys.executable, "-m", "lensmount_client", "serve", "--log-level", "warning")
Attack = Callable[[str, threading.Event], None]


def small_image() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def bomb(side: int = 6300) -> bytes:
    """A PNG of `side` x `side` black pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = side.to_bytes(4, "big") * 2 + bytes((1, 0, 0, 0, 0))  # 1 bit, grey
    rows = zlib.compress(bytes((side + 7) // 8 + 1) * side, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def connected(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def looped(count: int, act: Callable[[httpx.Client], object]) -> Attack:
    """`count` clients that do the same again and again."""

    def attack(url: str, over: threading.Event) -> None:
        def loop() -> None:
            with httpx.Client(base_url=url, timeout=120) as client:
                while not over.is_set():
                    with contextlib.suppress(httpx.HTTPError):
                        act(client)

        threads = [threading.Thread(target=loop) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return attack


def sent(first: bytes, block: bytes, blocks: int) -> Attack:
    """The same bytes on a new connection again and again, until the server closes it."""

    def attack(url: str, over: threading.Event) -> None:
        while not over.is_set():
            with connected(url) as connection, contextlib.suppress(OSError):
                connection.sendall(first)
                for _ in range(blocks):
                    connection.sendall(block)
                connection.recv(4096)

    return attack


def held_open(count: int, first: bytes, body: bytes) -> Attack:
    """`count` connections that send these bytes and then nothing."""

    def attack(url: str, over: threading.Event) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                connection = stack.enter_context(connected(url))
                with contextlib.suppress(OSError):
                    connection.sendall(first + body)
            over.wait()

    return attack


def attacks() -> dict[str, Attack]:
    image, large = small_image(), bomb()
    files = [("file", (f"{number}.png", large)) for number in range(64)]
    head = b"POST /predict?adapter=malaria HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    json_head = b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    json_head += b"Content-Length: 419430400\r\n"
    open_head = head + b"Content-Length: 32505857\r\n\r\n"
    return {
        "integrity": looped(2, lambda client: client.get("/integrity")),
        "metrics": looped(2, lambda client: client.get("/metrics")),
        "header": sent(head + b"X-Long: ", b"a" * MB, 48),
        "spaces": sent(json_head + b"\r\n", b" " * MB, 400),
        "pixels": looped(1, lambda client: client.post("/predict?adapter=malaria", files=files)),
        "pixels allowed": looped(1, lambda client: client.post("/predict?adapter=malaria", files=files[:16])),
        "open bodies": held_open(50, open_head, b"a" * (31 * MB)),
        "slow sockets": held_open(200, head, b"X-Slow: "),
        "one adapter": looped(64, lambda client: client.post("/predict?adapter=histology", content=image)),
    }


def quiet(url: str, seconds: float) -> tuple[list[float], dict[int, int]]:
    """The latencies of the quiet client in seconds, and how often it got each status."""
    image, took, statuses = small_image(), [], dict[int, int]()
    ends = time.perf_counter() + seconds
    with httpx.Client(base_url=url, timeout=120) as client:
        while time.perf_counter() < ends:
            started = time.perf_counter()
            answer = client.post("/predict?adapter=malaria", content=image)
            took.append(time.perf_counter() - started)
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
    return took, statuses


def p99(took: Sequence[float]) -> float:
    return sorted(took)[math.ceil(0.99 * len(took)) - 1]


@contextlib.contextmanager
def attacked_by(name: str, url: str) -> Iterator[None]:
    """The attack runs in a process of its own, from before the block until after it."""
    command = [sys.executable, __file__, "--attack", name, "--url", url]
    attacker = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert attacker.stdout is not None
    attacker.stdout.readline()  # it has begun
    try:
        yield
    finally:
        attacker.kill()
        attacker.wait()
        attacker.stdout.close()


def attack_forever(name: str, url: str) -> None:
    os.nice(19)
    with contextlib.suppress(OSError):  # Linux may share the processor between sessions first
        Path("/proc/self/autogroup").write_text("19")
    print("begun", flush=True)
    attacks()[name](url, threading.Event())


def measure(name: str, server: process.Server, seconds: float, rounds: int) -> None:
    before = server.memory().rss
    alone, attacked, refusals = list[float](), list[float](), dict[int, int]()
    for _ in range(rounds):
        took, _ = quiet(server.url, seconds)
        alone.append(p99(took))
        with attacked_by(name, server.url):
            took, statuses = quiet(server.url, seconds)
        attacked.append(p99(took))
        for status, count in statuses.items():
            refusals[status] = refusals.get(status, 0) + count
    time.sleep(SETTLE_S)
    after = server.memory().rss
    ratio = statistics.median(attacked) / statistics.median(alone)
    refusals.pop(200, None)
    print(
        f"{name:15} p99 alone {spread(alone)}, attacked {spread(attacked)} ms, {ratio:5.2f} times; "
        f"memory {before / MB:5.0f} to {after / MB:5.0f} MB, {after / before:4.2f} times; refused {refusals or 'none'}",
        flush=True,
    )


def spread(seconds: Sequence[float]) -> str:
    """Smallest, median and largest in milliseconds."""
    values = (min(seconds), statistics.median(seconds), max(seconds))
    return "/".join(f"{1e3 * value:.1f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=5.0, help="seconds of one round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds alone, and as many under each attack")
    parser.add_argument("--only", nargs="*", choices=list(attacks()), help="these attacks only")
    parser.add_argument("--attack", choices=list(attacks()), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attack:
        attack_forever(options.attack, options.url)
        return
    print(machine.describe(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        port = process.free_port()
        command = [*SERVE, "--state", str(Path(folder) / "state"), "--port", str(port)]
        with process.running(command, port, "/health/ready", Path(folder) / "log") as server:
            quiet(server.url, 3.0)
            for name in options.only or attacks():
                measure(name, server, options.duration, options.rounds)


if __name__ == "__main__":
    main()
