"""The simulation keeps the laws of queues, and the same seed gives the same outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
import pytest
from benchmarks.scale.costs import MachineCosts
from benchmarks.scale.fleet import Fleet
from benchmarks.scale.outcome import Outcome, Status
from benchmarks.scale.routers.hashing import Rendezvous
from benchmarks.scale.routers.simple import RandomChoice
from benchmarks.scale.simulate import Simulation
from benchmarks.scale.tiers import PooledPlaces
from benchmarks.scale.workload import Failure, Workload

from lensmount_adapters.runners.costs import Group

ROUTERS = ["random", "least loaded", "consistent hashing", "bounded load", "Ray's multiplex", "clairvoyant"]
SERVICE_S = 0.01


@dataclass
class OneByOne:
    """A server that takes SERVICE_S for a request, or draws it with that mean."""

    draw: Random | None = None
    request_s: float = 0.0
    transfer_s: float = 0.0
    contention: float = 0.0
    taken: list[float] = field(default_factory=list)

    def batch_s(self, groups: Sequence[Group], whole: bool) -> float:
        return SERVICE_S if self.draw is None else self.draw.expovariate(1 / SERVICE_S)


def queue(load: float, requests: int, draw: Random | None) -> Outcome:
    workload = Workload(1, 1.0, load / SERVICE_S, requests, seed=5)
    places = [PooledPlaces(0)]
    return Simulation(OneByOne(draw), places, RandomChoice(), workload, max_batch=1, repeatable=False).run()


def test_one_server_with_equal_requests_is_an_m_d_1_queue() -> None:
    load = 0.4
    expected = SERVICE_S * (1 + load / (2 * (1 - load)))  # Pollaczek and Khinchine
    assert queue(load, 50_000, None).latencies.mean() == pytest.approx(expected, rel=0.01)


def test_one_server_with_exponential_requests_is_an_m_m_1_queue() -> None:
    load = 0.3
    found = queue(load, 100_000, Random(1)).latencies
    assert found.mean() == pytest.approx(SERVICE_S / (1 - load), rel=0.01)
    median = np.log(2) * SERVICE_S / (1 - load)  # the time in the system is exponential too
    assert np.median(found) == pytest.approx(median, rel=0.01)


def run(name: str, seed: int = 0, failures: Sequence[Failure] = (), rate: float = 30.0, cv: float = 4.0) -> Outcome:
    fleet = Fleet(8, MachineCosts.read(), Rendezvous(8, 4000), cache_bytes=300 * 377_676)
    workload = Workload(4000, 1.0, 8 * rate, 4000, cv=cv, seed=seed, failures=failures)
    router = fleet.router(name, seed)
    return Simulation(fleet.costs, fleet.places(name, workload, router), router, workload).run()


@pytest.mark.parametrize("name", ROUTERS)
def test_each_request_is_answered_refused_or_failed_once_and_little_s_law_holds(name: str) -> None:
    outcome = run(name, failures=[Failure(3, 4.0, 9.0), Failure(5, 4.5, 5.0), Failure(1, 5.0, 6.0)], rate=45.0)
    ends = [outcome.count(status) for status in (Status.answered, Status.refused, Status.failed)]
    assert sum(ends) == 4000
    assert outcome.count(Status.in_flight) == 0
    assert (ends[2] > 0) == (name == "Ray's multiplex")  # it does not retry what a dead server had
    assert outcome.retried > 0 or name == "Ray's multiplex"
    rate = 4000 / outcome.ended
    in_system_s = (outcome.ended_at - outcome.arrived_at).mean()
    assert outcome.in_flight_seconds / outcome.ended == pytest.approx(rate * in_system_s, rel=0.02)


@pytest.mark.parametrize("name", ROUTERS)
def test_the_same_seed_gives_the_same_outcome_and_another_seed_another(name: str) -> None:
    first, again, other = run(name), run(name), run(name, seed=1)
    assert np.array_equal(first.ended_at, again.ended_at, equal_nan=True)
    assert np.array_equal(first.servers, again.servers)
    assert not np.array_equal(first.ended_at, other.ended_at)


def test_a_server_refuses_what_its_queue_has_no_room_for() -> None:
    outcome = run("consistent hashing", rate=300.0, cv=1.0)
    assert outcome.count(Status.refused) > 100
    assert outcome.count(Status.answered) + outcome.count(Status.refused) == 4000


def test_what_dies_comes_back_empty_and_fills_its_memory_again() -> None:
    outcome = run("consistent hashing", failures=[Failure(2, 3.0, 4.0)], cv=1.0)
    after = outcome.servers[(outcome.arrived_at > 4.0) & (outcome.arrived_at < 6.0)]
    tiers = outcome.tiers[(outcome.arrived_at > 4.0) & (outcome.arrived_at < 6.0)]
    assert (tiers[after == 2] == 3).mean() > 0.5  # from the object store
    assert (tiers[after == 1] == 3).mean() == 0.0


def test_the_counted_part_leaves_the_warm_up_out() -> None:
    outcome = run("random")
    assert len(outcome.counted().arrived_at) == 3200
    assert sum(outcome.counted().hit_rates().values()) == pytest.approx(1.0)
    assert 0 <= outcome.attainment_of_adapters(0.25) <= 1
