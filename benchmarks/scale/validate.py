"""The simulation of one server next to the real one, in 12 workloads with the same arrivals. Takes about 7 minutes.

    python -m benchmarks.scale.validate [--measure] [--seconds 20] [--only 1 5] [--out FOLDER]

Requests come at random over HTTP, whatever the server does (open loop), and the wait for a connection counts. Each rate
is a share of what the simulation says that the server can answer. `--measure` measures `machine.json` again first. The
goals: answers per second within 5 %, p99 within 15 %. The machine must be idle otherwise.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.scale.costs import MACHINE, MachineCosts
from benchmarks.scale.measure import in_the_engine, with_requests
from benchmarks.scale.outcome import Status
from benchmarks.scale.routers.simple import RandomChoice
from benchmarks.scale.server import load, serving
from benchmarks.scale.simulate import Simulation
from benchmarks.scale.study import rounded
from benchmarks.scale.tiers import HotPlaces, OwnPlaces, Recent
from benchmarks.scale.workload import Workload
from benchmarks.shared import results

from lensmount_client._bench.load import Load, Mix, Schedule
from lensmount_client._bench.summary import Summary, percentile

ADAPTERS = 64
HOT_BYTES = 2**29  # the server's default
WARMUP_S = 6.0
CONNECTIONS = 128
PER_S, P99 = 0.05, 0.15  # how far the simulation may be from the server
FLOOD = 1000.0  # requests per second: more than any server answers
FETCH_S, MEASURED_S = 0.06, 8.0
PAUSE_S = 100.0  # between two workloads, in the simulation


@dataclass(frozen=True)
class Asked:
    """A workload: how many adapters are asked, how often each, at which share of the capacity, in which bursts."""

    adapters: int
    mix: Mix
    share: float
    cv: float = 1.0


WORKLOADS = (
    Asked(1, Mix.one, 0.3),
    Asked(1, Mix.one, 0.6),
    Asked(1, Mix.one, 0.8),
    Asked(1, Mix.one, 0.5, cv=4.0),
    Asked(4, Mix.uniform, 0.5),
    Asked(4, Mix.zipf, 0.8),
    Asked(16, Mix.zipf, 0.4),
    Asked(16, Mix.zipf, 0.7),
    Asked(16, Mix.uniform, 0.6),
    Asked(64, Mix.zipf, 0.6),
    Asked(64, Mix.uniform, 0.7),
    Asked(64, Mix.zipf, 0.5, cv=4.0),
)


@dataclass(frozen=True)
class Row:
    """One workload: answers per second and latencies in milliseconds of both, and refused requests."""

    number: int
    adapters: int
    mix: str
    cv: float
    rate: float
    server_per_s: float
    simulated_per_s: float
    server_p50: float
    simulated_p50: float
    server_p99: float
    simulated_p99: float
    server_refused: int
    simulated_refused: int

    @property
    def met(self) -> tuple[bool, bool]:
        return (
            abs(self.simulated_per_s / self.server_per_s - 1) <= PER_S,
            abs(self.simulated_p99 / self.server_p99 - 1) <= P99,
        )


class Twin:
    """The simulation of one server. What it has in memory stays from one load to the next, as in the server."""

    def __init__(self, costs: MachineCosts) -> None:
        self._costs = costs
        hot = HotPlaces(costs, HOT_BYTES)
        hot.warm((adapter, 0.0) for adapter in range(HOT_BYTES // costs.hot_bytes))  # uploads, while there was room
        self._places = OwnPlaces(costs, Recent(ADAPTERS, range(ADAPTERS)), hot, lambda adapter: True)
        self._begin = 0.0

    def run(self, work: Load) -> tuple[float, list[float], int]:
        """Answers per second, the latencies in order, and the refused requests, all after the warm-up."""
        schedule = Schedule(work, self._begin, lambda: self._begin)
        arrivals = list(iter(schedule.next, None))
        times, adapters = [arrival.due for arrival in arrivals], [arrival.target for arrival in arrivals]
        workload = Workload(ADAPTERS, 1.0, work.rate or 1.0, len(times))  # only for its failures: there are none
        simulation = Simulation(self._costs, [self._places], RandomChoice(), workload, arrivals=(times, adapters))
        outcome = simulation.run()
        begin = self._begin + work.warmup_s
        self._begin = outcome.ended + PAUSE_S
        counted, answered = outcome.arrived_at >= begin, outcome.status == Status.answered
        in_time = answered & (outcome.ended_at >= begin) & (outcome.ended_at < begin + work.duration_s)
        latencies = (outcome.ended_at - outcome.arrived_at)[counted & answered]
        refused = int((counted & (outcome.status == Status.refused)).sum())
        return float(in_time.sum()) / work.duration_s, sorted(latencies.tolist()), refused


def capacity(costs: MachineCosts, asked: Asked) -> float:
    """Answers per second of the simulation if more requests come than it can answer."""
    flood = load("http://simulated", asked.adapters, asked.mix, rate=FLOOD, duration_s=20.0, warmup_s=10.0)
    return Twin(costs).run(flood)[0]


def compared(url: str, twin: Twin, number: int, asked: Asked, rate: float, seconds: float) -> Row:
    """The same load on both."""
    given = {"rate": rate, "cv": asked.cv, "duration_s": seconds, "warmup_s": WARMUP_S, "connections": CONNECTIONS}
    work = load(url, asked.adapters, asked.mix, **given)
    simulated_per_s, simulated, simulated_refused = twin.run(work)
    real = Summary.of(work.run()).all
    if real.latency is None or not simulated:
        raise SystemExit(f"workload {number}: nothing was answered: {real.errors}")
    return Row(
        *(number, asked.adapters, str(asked.mix), asked.cv, rate, real.per_s, simulated_per_s),
        *(real.latency.p50, 1000 * percentile(simulated, 0.5)),
        *(real.latency.p99, 1000 * percentile(simulated, 0.99)),
        *(real.failed, simulated_refused),
    )


def show(rows: Sequence[Row]) -> None:
    print("| | adapters | CV | offered/s | answered/s | simulated | p50 ms | simulated | p99 ms | simulated | met |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---|")
    for row in rows:
        both = f"{row.server_per_s:.1f} | {row.simulated_per_s:.1f} | {row.server_p50:.0f} | {row.simulated_p50:.0f}"
        tail = (
            f"{row.server_p99:.0f} | {row.simulated_p99:.0f} | {', '.join('yes' if met else 'no' for met in row.met)}"
        )
        print(f"| {row.number} | {row.adapters} {row.mix} | {row.cv:g} | {row.rate:.0f} | {both} | {tail} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure machine.json again first")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each workload, after 6 s of warm-up")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of workloads, from 1")
    parser.add_argument("--out", type=Path, help="folder for validation.csv; without it, nothing is written")
    options = parser.parse_args()
    print(results.described(), flush=True)
    if options.measure:
        with_requests(in_the_engine(FETCH_S), MEASURED_S).write(MACHINE)
    costs, rows = MachineCosts.read(), []
    wanted = [(number, asked) for number, asked in enumerate(WORKLOADS, 1) if number in (options.only or [number])]
    rates = {number: asked.share * capacity(costs, asked) for number, asked in wanted}
    twin = Twin(costs)
    with serving(ADAPTERS) as server:
        for number, asked in wanted:
            rows.append(compared(server.url, twin, number, asked, rates[number], options.seconds))
            show(rows[-1:])
    print()
    show(rows)
    print(f"\n{results.described()}; met: {sum(all(row.met) for row in rows)} of {len(rows)}")
    if options.out is not None:
        write(options.out / "validation.csv", rows)


def write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(asdict(rows[0])), lineterminator="\n")
        table.writeheader()
        table.writerows({name: rounded(value) for name, value in asdict(row).items()} for row in rows)


if __name__ == "__main__":
    main()
