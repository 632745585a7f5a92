"""16 clients of an alias while 50 rollouts start and end, against the same clients without: failures and p99.

    python -m benchmarks.rollouts.changes [--rollouts 50] [--clients 16] [--rounds 3] [--uploads]

A server of the zoo in a process of its own. In every second part of a round, rollouts of `malaria:prod` start one after
the other with a canary of 10 %, and are promoted or rolled back in turn. Each candidate is another file. With
`--uploads` it is uploaded while the clients ask, which also makes its programs then; otherwise before the round. The
goals: no answer but 200, and at most 1.5 times the p99.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from benchmarks.shared import machine, process, results

from lensmount_adapters.adapter.file import dump_adapter, parse_adapter
from lensmount_client import Client

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "samples" / "cell-parasitized.png"
ALIAS = "malaria:prod"
WARM_UP_S = 5.0


class Clients:
    """`with Clients(url, 16) as clients:` asks until the end of the block; `seconds` and `statuses` of all answers."""

    def __init__(self, url: str, count: int) -> None:
        self.seconds: list[float] = []
        self.statuses: Counter[int] = Counter()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url,)) for _ in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def p99_ms(self) -> float:
        return 1e3 * sorted(self.seconds)[int(0.99 * len(self.seconds))]

    def _ask(self, url: str) -> None:
        body = IMAGE.read_bytes()
        with httpx.Client(base_url=url, timeout=60) as client:
            while not self._ended.is_set():
                started = time.perf_counter()
                answer = client.post(f"/predict?adapter={ALIAS}", content=body)
                self.seconds.append(time.perf_counter() - started)
                self.statuses[answer.status_code] += 1


def push(client: Client, folder: Path, number: int) -> int:
    """Upload another file with nearly the same answers. Returns its version."""
    file = parse_adapter((ROOT / "adapters" / "zoo" / "malaria.safetensors").read_bytes())
    layers = {name: tensor for name, tensor in file.tensors.items() if not name.startswith("trust")}
    changed = {name: tensor * (1 + number / 1000) if "head" in name else tensor for name, tensor in layers.items()}
    path = folder / f"{number}.safetensors"
    path.write_bytes(dump_adapter(file.manifest.model_copy(update={"trust": None}), changed))
    return client.adapters.push(path, name="malaria").version


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=50)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--uploads", action="store_true", help="upload each candidate while the clients ask")
    options = parser.parse_args()
    print(machine.describe(), flush=True)
    numbers, statuses = itertools.count(1), Counter[int]()
    p99: dict[bool, list[float]] = {False: [], True: []}
    with TemporaryDirectory() as name:
        folder, port = Path(name), process.free_port()
        command = [sys.executable, "-m", "lensmount_client", "serve", "--log-level", "warning", "--port", str(port)]
        command += ["--state", str(folder / "state")]
        with (
            process.running(command, port, "/health/ready", folder / "server.log") as server,
            Client(server.url) as client,
        ):
            client.adapters.alias("malaria", "prod", 1)
            with Clients(server.url, options.clients):
                time.sleep(WARM_UP_S)
            for _ in range(options.rounds):
                lasted, count = 0.0, options.rollouts // options.rounds
                versions = [] if options.uploads else [push(client, folder, next(numbers)) for _ in range(count)]
                for changing in (True, False):
                    with Clients(server.url, options.clients) as clients:
                        started = time.perf_counter()
                        for turn in range(count if changing else 0):
                            version = push(client, folder, next(numbers)) if options.uploads else versions[turn]
                            client.rollouts.start("malaria", "prod", canary=version, percent=10)
                            time.sleep(0.2)
                            (client.rollouts.promote if turn % 2 else client.rollouts.rollback)("malaria", "prod")
                        time.sleep(lasted)
                        lasted = time.perf_counter() - started
                    p99[changing].append(clients.p99_ms)
                    statuses += clients.statuses
    rows = [results.Row.of(f"p99 {'with' if way else 'without'} rollouts", p99[way], "ms") for way in (True, False)]
    rows.append(results.ratios("p99: with / without", p99[True], p99[False], "at most 1.5"))
    results.show(rows)
    print(f"answers by status: {dict(statuses)}")


if __name__ == "__main__":
    main()
