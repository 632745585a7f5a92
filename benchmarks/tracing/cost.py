"""What traces cost: the median time of a prediction with traces off, at a ratio of 0 and at a ratio of 1, in turn.

Three servers run side by side and are asked one after the other, some predictions at a time; the one that
comes first changes from round to round. A fourth process takes the traces. The goals: at a ratio of 0 at most 1.05
times the time without traces, at a ratio of 1 at most 1.15 times.

    python benchmarks/tracing/cost.py [--rounds 60] [--in-a-round 20]
"""

from __future__ import annotations

import argparse
import http.client
import http.server
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from shared import machine, process, results  # type: ignore[import-not-found]  # in the folder above

IMAGE = Path(__file__).parents[2] / "samples" / "cell-parasitized.png"
WARM_UP = 300  # predictions, until every program is made
WAYS: dict[str, dict[str, str]] = {
    "off": {"OTEL_TRACES_EXPORTER": "none"},
    "ratio 0": {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
    "ratio 1": {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1"},
}
GOALS = {"ratio 0": "at most 1.05", "ratio 1": "at most 1.15"}


class Taken(http.server.BaseHTTPRequestHandler):
    """Takes OTLP over HTTP and keeps nothing; GET / says how many bytes came."""

    taken = 0

    def do_POST(self) -> None:
        Taken.taken += len(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(str(Taken.taken).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


class Asker:
    """One connection to a server, which asks for the same prediction again and again."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._body = IMAGE.read_bytes()

    def ask(self) -> float:
        started = time.perf_counter()
        self._connection.request("POST", "/predict?adapter=malaria", self._body)
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"found status {answer.status}")
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--in-a-round", type=int, default=20, help="predictions of a way in each round")
    parser.add_argument("--collect", type=int, help=argparse.SUPPRESS)  # the port of the process that takes the traces
    options = parser.parse_args()
    if options.collect:
        http.server.ThreadingHTTPServer(("127.0.0.1", options.collect), Taken).serve_forever()
    print(machine.describe(), flush=True)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        collector = process.free_port()
        command = [sys.executable, __file__, "--collect", str(collector)]
        stack.enter_context(process.running(command, collector, "/", Path(folder) / "collector"))
        askers = {way: Asker(_serve(stack, Path(folder), way, collector)) for way in WAYS}
        for asker in askers.values():
            for _ in range(WARM_UP):
                asker.ask()
        for turn in range(options.rounds):
            for way in (*WAYS,) if turn % 2 else (*reversed(WAYS),):
                seconds[way].append(statistics.median(askers[way].ask() for _ in range(options.in_a_round)))
        connection = http.client.HTTPConnection("127.0.0.1", collector)
        connection.request("GET", "/")
        print(f"traces taken: {int(connection.getresponse().read()):,} bytes")
    rows = [results.Row.of(f"p50 of a prediction, {way}", [1e3 * s for s in seconds[way]], "ms") for way in WAYS]
    rows += [results.ratios(f"{way} / off", seconds[way], seconds["off"], goal) for way, goal in GOALS.items()]
    results.show(rows)


def _serve(stack: ExitStack, folder: Path, way: str, collector: int) -> int:
    port: int = process.free_port()
    name = way.replace(" ", "-")
    command = [sys.executable, "-m", "lensmount_client", "serve", "--log-level", "warning", "--port", str(port)]
    command += ["--state", str(folder / name)]
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}", **WAYS[way]}
    stack.enter_context(process.running(command, port, "/health/ready", folder / f"{name}.log", environment))
    return port


if __name__ == "__main__":
    main()
