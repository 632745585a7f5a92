"""kill -9 of replicas during many requests for many adapters: failures, wrong digests, the longest answer.

    python -m benchmarks.ray.kills [--requests 3000] [--kills 3] [--adapters 12] [--clients 16] [--replicas 2]

The goals: no answer except 200, no digest but that of the adapter asked for, and no answer after more than 5 s. A kill
follows when Ray has replaced the replica of the one before.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from benchmarks.ray.fleet import IMAGE, replicas, serving
from benchmarks.shared import machine

REPLACED_S = 120.0


class Asking:
    """Clients that ask until `requests` were answered and `stop` was called, whichever is later."""

    def __init__(self, url: str, adapters: int, requests: int) -> None:
        self.statuses: Counter[int | str] = Counter()
        self.wrong = 0
        self.longest_s = 0.0
        self._url = url
        self._numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._digests: list[str] = []
        self._requests = requests
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        with httpx.Client(base_url=url, timeout=60) as client:
            names = [f"task{number}" for number in range(adapters)]
            self._digests = [client.get(f"/adapters/{name}").json()["digest"] for name in names]

    @property
    def answered(self) -> int:
        return self.statuses.total()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while self.answered < self._requests or not self._stopped.is_set():
                number = self.answered % len(self._digests)
                started = time.monotonic()
                try:
                    answer = client.post(f"/predict?adapter=task{number}", content=IMAGE)
                    status: int | str = answer.status_code
                    wrong = status == 200 and answer.json()["adapter"]["digest"] != self._digests[number]
                except httpx.TransportError as error:
                    status, wrong = type(error).__name__, False
                with self._lock:
                    self.statuses[status] += 1
                    self.wrong += wrong
                    self.longest_s = max(self.longest_s, time.monotonic() - started)


def killed(asking: Asking, kills: int, wanted: int, each: int) -> list[float]:
    """Seconds from each kill until all replicas run again. `each` answers lie between two kills at least."""
    replaced = []
    for number in range(kills):
        while asking.answered < (number + 1) * each:
            time.sleep(0.01)
        victim = min(replicas())
        os.kill(victim, signal.SIGKILL)
        started = time.monotonic()
        while len(set(replicas()) - {victim}) < wanted and time.monotonic() - started < REPLACED_S:
            time.sleep(0.2)
        replaced.append(time.monotonic() - started)
        time.sleep(8.0)  # a new process still loads its engine
    return replaced


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--adapters", type=int, default=12)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--replicas", type=int, default=2)
    options = parser.parse_args()
    print(machine.describe())
    with TemporaryDirectory() as folder, serving(Path(folder), options.adapters, options.replicas) as (_, door):
        asking = Asking(door.url, options.adapters, options.requests)
        threads = [threading.Thread(target=asking.run) for _ in range(options.clients)]
        for thread in threads:
            thread.start()
        each = options.requests // (options.kills + 1)
        replaced = killed(asking, options.kills, options.replicas, each)
        asking.stop()
        for thread in threads:
            thread.join()
    print(f"{asking.answered} answers: {dict(asking.statuses)}, {asking.wrong} wrong digests")
    print(f"longest {asking.longest_s:.1f} s; replaced after {', '.join(f'{each:.0f} s' for each in replaced)}")
    sys.exit(asking.statuses.keys() != {200} or asking.wrong > 0 or asking.longest_s > 5.0)


if __name__ == "__main__":
    main()
