"""A thousand servers and a million adapters: what each router makes of the same load.

    python -m benchmarks.scale.study [--servers 1000] [--adapters 1000000] [--requests 300000] [--jobs 1]

Three tables are written as CSV. `routers.csv`: zipf 0.7 to 1.1 and bursts of CV 1 and 4, at one load. On a tenth of the
servers and adapters, `loads.csv`: zipf 0.9 at rising loads, until the SLO is missed, and `bound.csv`: the knobs of our
router. In each run 1 % of the servers die in one moment, as many as in an hour, and as many are just back. The first
fifth of the requests warms up.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

from benchmarks.scale.costs import MachineCosts
from benchmarks.scale.fleet import CLAIRVOYANT, Fleet
from benchmarks.scale.outcome import Outcome, Status
from benchmarks.scale.routers.bounded import LEAST, PAIRS, BoundedLoad
from benchmarks.scale.routers.hashing import Rendezvous
from benchmarks.scale.routers.multiplex import Multiplex
from benchmarks.scale.routers.simple import ConsistentHashing, LeastLoaded, RandomChoice
from benchmarks.scale.simulate import Simulation
from benchmarks.scale.tiers import Tier
from benchmarks.scale.workload import Workload, failures_of_an_hour

FOLDER = Path(__file__).parent / "results"
ROUTERS = (
    RandomChoice.name,
    LeastLoaded.name,
    ConsistentHashing.name,
    Multiplex.name,
    BoundedLoad.name,
    CLAIRVOYANT,
)
SLO_S = 0.25
DYING, RESTART_S = 0.01, 19.0
ZIPFS, CVS = (0.7, 0.9, 1.0, 1.1), (1.0, 4.0)
RATE = 40.0  # requests per second and server
RATES = (20.0, 30.0, 40.0, 50.0, 60.0)
LEASTS = (1, 2, 4, 8, 16)
ALL_PAIRS = 500


@dataclass(frozen=True)
class Case:
    """One run."""

    router: str
    servers: int
    adapters: int
    requests: int
    zipf: float = 0.9
    cv: float = 1.0
    rate: float = RATE
    least: int = LEAST
    pairs: int = PAIRS


@dataclass(frozen=True)
class Row:
    """The figures of one run; times in milliseconds, `load` is the share of the time in which the engines compute."""

    router: str
    servers: int
    adapters: int
    requests: int
    zipf: float
    cv: float
    rate: float
    least: int
    pairs: int
    answered: int
    refused: int
    failed: int
    retried: int
    p50: float
    p99: float
    slo_requests: float
    slo_adapters: float
    hot: float
    memory: float
    file: float
    remote: float
    engine_ms: float  # of one image
    batch: float
    load: float

    @classmethod
    def of(cls, case: Case, outcome: Outcome) -> Row:
        seen = outcome.counted()
        tiers = seen.hit_rates()
        answered = outcome.count(Status.answered)
        return cls(  # type: ignore[call-arg]  # the lengths of tuples
            *(case.router, case.servers, case.adapters, case.requests, case.zipf, case.cv, case.rate),
            *(case.least, case.pairs),
            seen.count(Status.answered),
            seen.count(Status.refused),
            seen.count(Status.failed),
            outcome.retried,
            1000 * seen.percentile(0.5),
            1000 * seen.percentile(0.99),
            seen.attainment(SLO_S),
            seen.attainment_of_adapters(SLO_S),
            *(tiers[str(tier)] for tier in Tier),
            1000 * outcome.busy_s / answered,
            answered / outcome.batches,
            outcome.busy_s / outcome.ended / case.servers,
        )


@lru_cache(2)
def hashing(servers: int, adapters: int) -> Rendezvous:
    found = Rendezvous(servers, adapters)
    _ = found.table  # computed once
    return found


def run(case: Case) -> Row:
    fleet = Fleet(case.servers, MachineCosts.read(), hashing(case.servers, case.adapters))
    rate = case.rate * case.servers
    failures = failures_of_an_hour(case.servers, DYING, case.requests / rate / 2, RESTART_S)
    workload = Workload(case.adapters, case.zipf, rate, case.requests, cv=case.cv, failures=failures)
    router = fleet.router(case.router, least=case.least, pairs=case.pairs)
    return Row.of(case, Simulation(fleet.costs, fleet.places(case.router, workload, router), router, workload).run())


def cases(servers: int, adapters: int, requests: int) -> dict[str, list[Case]]:
    """The runs by table."""
    size = servers, adapters, requests
    part = max(2, servers // 10), adapters // 10, requests // 2
    return {
        "routers": [Case(name, *size, zipf=zipf, cv=cv) for zipf in ZIPFS for cv in CVS for name in ROUTERS],
        "loads": [Case(name, *part, rate=rate) for rate in RATES for name in ROUTERS],
        "bound": [
            Case(BoundedLoad.name, *part, zipf=zipf, least=least, pairs=pairs)
            for zipf in (0.9, 1.1)
            for pairs in (PAIRS, ALL_PAIRS)
            for least in LEASTS
        ],
    }


def write(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([field.name for field in fields(Row)])
        table.writerows([[rounded(getattr(row, field.name)) for field in fields(Row)] for row in rows])


def read(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        kinds = {field.name: {"str": str, "int": int, "float": float}[str(field.type)] for field in fields(Row)}
        return [Row(**{name: kinds[name](value) for name, value in line.items()}) for line in csv.DictReader(file)]


def rounded(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--adapters", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=300_000)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--tables", nargs="+", choices=["routers", "loads", "bound"])
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for table, wanted in cases(options.servers, options.adapters, options.requests).items():
        if options.tables and table not in options.tables:
            continue
        hashing(wanted[0].servers, wanted[0].adapters)  # before the processes are forked
        rows = []
        for row in each(wanted, options.jobs):
            rows.append(row)
            print(table, *(f"{field.name}={rounded(getattr(row, field.name))}" for field in fields(Row)), flush=True)
        write(options.out / f"{table}.csv", rows)


def each(wanted: Sequence[Case], jobs: int) -> Iterator[Row]:
    if jobs == 1:
        yield from map(run, wanted)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap(run, wanted)


if __name__ == "__main__":
    main()
