"""Load on a running server: closed loop or Poisson arrivals, latencies counted from when a request should have started.

A load tool that sends late because the server is slow, and counts from the sending, hides the wait ("coordinated
omission"). Here an arrival has its time before anything is sent, and the wait for a free connection counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from random import Random

from lensmount_client._bench.connection import Body, Connection, Origin
from lensmount_client._errors import InvalidInput, LensmountError
from lensmount_client._http.problem import error_of

ZIPF_EXPONENT = 1.0


class Mix(StrEnum):
    """How often each target is asked: the k-th 1/k as often as the first, all alike, or the first alone."""

    zipf = "zipf"
    uniform = "uniform"
    one = "one"

    def weights(self, count: int) -> list[float]:
        match self:
            case Mix.zipf:
                return [rank**-ZIPF_EXPONENT for rank in range(1, count + 1)]
            case Mix.uniform:
                return [1.0] * count
            case Mix.one:
                return [1.0] + [0.0] * (count - 1)


@dataclass(frozen=True)
class Target:
    """What is asked: `Target("malaria", "/predict?adapter=malaria")`; the path is sent as it is."""

    name: str
    path: str


@dataclass(frozen=True)
class Load:
    """`Load("http://127.0.0.1:8000", [target], [Body.raw(image)], connections=16, duration_s=10).run()`.

    Closed loop: each connection sends its next request when the last one is answered. With `rate`, requests arrive at
    random, so many a second on average, and `connections` is only how many may be under way.
    Images take turns; which target is asked is drawn. The same seed draws the same sequence. Any server will do.
    """

    base_url: str
    targets: Sequence[Target]
    bodies: Sequence[Body]
    connections: int = 8
    rate: float | None = None
    duration_s: float = 10.0
    warmup_s: float = 1.0
    mix: Mix = Mix.zipf
    seed: int = 0
    token: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0

    def run(self) -> Measured:
        """Blocks until the last answer is in. Raises InvalidInput; what single requests meet is in their samples."""
        self._check()
        origin = Origin.of(self.base_url, self.token)
        heads = [origin.head(target.path) for target in self.targets]
        samples: list[Sample] = []
        idle: list[Connection] = []  # a stack: a low rate goes over few connections, which stay warm
        opened: list[Connection] = []
        stopping = threading.Event()
        cpu_s, begin = time.process_time(), time.perf_counter()
        schedule = Schedule(self, begin)

        def work() -> None:
            while not stopping.is_set() and (arrival := schedule.next()) is not None:
                early_s = arrival.due - time.perf_counter()
                if early_s > 0:
                    stopping.wait(early_s)
                try:
                    connection = idle.pop()
                except IndexError:
                    connection = Connection(origin, self.timeout_s, stopping)
                    opened.append(connection)
                error = _error(connection, heads[arrival.target], self.bodies[arrival.body])
                samples.append(Sample(arrival.target, arrival.due, time.perf_counter(), error))
                idle.append(connection)

        with ThreadPoolExecutor(self.connections, thread_name_prefix="lensmount-bench") as pool:
            try:
                for worker in [pool.submit(work) for _ in range(self.connections)]:
                    worker.result()
            finally:  # after Ctrl-C some are still waiting for an answer
                stopping.set()
                for connection in opened:
                    connection.close()
        end = time.perf_counter()
        return Measured(self, samples, begin + self.warmup_s, (time.process_time() - cpu_s) / (end - begin))

    def _check(self) -> None:
        if not self.targets or not self.bodies:
            raise InvalidInput(f"found {len(self.targets)} targets and {len(self.bodies)} images, expected one of each")
        if self.connections < 1:
            raise InvalidInput(f"connections: found {self.connections}, expected 1 or more")
        if self.rate is not None and not self.rate > 0:
            raise InvalidInput(f"rate: found {self.rate}, expected requests a second above 0")
        if not self.duration_s > 0 or self.warmup_s < 0:
            raise InvalidInput(f"found {self.duration_s} s after {self.warmup_s} s, expected seconds above 0")


@dataclass(frozen=True)
class Arrival:
    """One request: when it should start, on the clock of time.perf_counter, what is asked and with which image."""

    due: float
    target: int
    body: int


class Schedule:
    """Hands out arrivals in order, to any thread, until the time is over."""

    def __init__(self, load: Load, begin: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._load = load
        self._clock = clock
        self._random = Random(load.seed)
        self._weights = list(accumulate(load.mix.weights(len(load.targets))))
        self._due = begin
        self._end = begin + load.warmup_s + load.duration_s
        self._count = 0
        self._lock = threading.Lock()

    def next(self) -> Arrival | None:
        with self._lock:
            rate = self._load.rate
            self._due = self._clock() if rate is None else self._due + self._random.expovariate(rate)
            if self._due >= self._end:
                return None
            (target,) = self._random.choices(range(len(self._weights)), cum_weights=self._weights)
            body = self._count % len(self._load.bodies)
            self._count += 1
            return Arrival(self._due, target, body)


@dataclass(frozen=True, slots=True)
class Sample:
    """One request that ended: its target, when it should have started, when it ended, what went wrong."""

    target: int
    start: float
    end: float
    error: LensmountError | None


@dataclass(frozen=True)
class Measured:
    """All samples, those of the warm-up too, which end at `begin`. `busy` is this process's share of one core."""

    load: Load
    samples: Sequence[Sample]
    begin: float
    busy: float


def _error(connection: Connection, head: bytes, body: Body) -> LensmountError | None:
    try:
        answer = connection.post(head, body)
    except LensmountError as error:
        return error
    return None if answer.ok else error_of(answer, time.time())
