"""Load-test a running server: closed loop or Poisson arrivals, latency counted from when a request should have started.

A load tool that sends late because the server is slow, and counts from the moment of sending, hides the wait
("coordinated omission"). Here each arrival has a fixed time in advance, and the wait for a free connection counts.
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
    """How often each target is requested: the k-th 1/k as often as the first, all equally often, or only the first."""

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
    """What is requested: `Target("malaria", "/predict?adapter=malaria")`. The path is sent unchanged."""

    name: str
    path: str


@dataclass(frozen=True)
class Load:
    """`Load("http://127.0.0.1:8000", [target], [Body.raw(image)], connections=16, duration_s=10).run()`.

    Closed loop: each connection sends its next request when the last one is answered. With `rate`, requests arrive at
    random, on average `rate` per second, and `connections` only limits how many are in progress. `cv` is the
    coefficient of variation of the gaps between them: 1 is a Poisson process, and with more they come in bursts.
    Images are sent in turn; targets are drawn at random. The same seed draws the same sequence. Any HTTP server works.
    """

    base_url: str
    targets: Sequence[Target]
    bodies: Sequence[Body]
    connections: int = 8
    rate: float | None = None
    cv: float = 1.0
    duration_s: float = 10.0
    warmup_s: float = 1.0
    mix: Mix = Mix.zipf
    seed: int = 0
    token: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0

    def run(self) -> Measured:
        """Block until the last response. Raises InvalidInput; errors of single requests are in their samples."""
        self._check()
        origin = Origin.of(self.base_url, self.token)
        heads = [origin.head(target.path) for target in self.targets]
        samples: list[Sample] = []
        idle: list[Connection] = []  # a stack: at a low rate few connections are used, which stay warm
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
            finally:  # after Ctrl-C some threads still wait for a response
                stopping.set()
                for connection in opened:
                    connection.close()
        end = time.perf_counter()
        return Measured(self, samples, begin + self.warmup_s, (time.process_time() - cpu_s) / (end - begin))

    def _check(self) -> None:
        if not self.targets or not self.bodies:
            raise InvalidInput(
                f"found {len(self.targets)} targets and {len(self.bodies)} images, expected at least one of each"
            )
        if self.connections < 1:
            raise InvalidInput(f"connections: found {self.connections}, expected 1 or more")
        if self.rate is not None and not self.rate > 0:
            raise InvalidInput(f"rate: found {self.rate}, expected requests per second above 0")
        if not self.cv > 0:
            raise InvalidInput(f"cv: found {self.cv}, expected a number above 0")
        if not self.duration_s > 0 or self.warmup_s < 0:
            raise InvalidInput(f"found {self.duration_s} s after {self.warmup_s} s, expected seconds above 0")


@dataclass(frozen=True)
class Arrival:
    """One request: when it should start (time.perf_counter), and the indices of its target and image."""

    due: float
    target: int
    body: int


class Schedule:
    """Gives arrivals in order to any thread until the time is over."""

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
            self._due = self._clock() if rate is None else self._due + self._gap(rate)
            if self._due >= self._end:
                return None
            (target,) = self._random.choices(range(len(self._weights)), cum_weights=self._weights)
            body = self._count % len(self._load.bodies)
            self._count += 1
            return Arrival(self._due, target, body)

    def _gap(self, rate: float) -> float:
        cv = self._load.cv
        if cv == 1:
            return self._random.expovariate(rate)
        return self._random.gammavariate(1 / cv**2, cv**2 / rate)


@dataclass(frozen=True, slots=True)
class Sample:
    """One finished request: its target, when it should have started, when it ended, and its error."""

    target: int
    start: float
    end: float
    error: LensmountError | None


@dataclass(frozen=True)
class Measured:
    """All samples. Those before `begin` are of the warm-up. `busy` is this process's share of one core."""

    load: Load
    samples: Sequence[Sample]
    begin: float
    busy: float


def _error(connection: Connection, head: bytes, body: Body) -> LensmountError | None:
    try:
        response = connection.post(head, body)
    except LensmountError as error:
        return error
    return None if response.ok else error_of(response, time.time())
