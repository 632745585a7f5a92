"""What each router promises."""

from __future__ import annotations

from collections import Counter
from math import ceil

import numpy as np
import pytest
from benchmarks.scale.routers.bounded import BoundedLoad, choose
from benchmarks.scale.routers.hashing import Rendezvous
from benchmarks.scale.routers.multiplex import MATCH_S, REPORT_S, Multiplex
from benchmarks.scale.routers.router import Loads
from benchmarks.scale.routers.simple import ConsistentHashing, LeastLoaded, RandomChoice

HASHING = Rendezvous(50, 2000)


def test_the_beginning_of_an_order_is_that_of_the_whole_order() -> None:
    for adapter in (0, 7, 1999):
        assert HASHING.first(adapter) == HASHING.order(adapter)[:9]
        assert sorted(HASHING.order(adapter)) == list(range(50))


def test_rendezvous_hashing_spreads_adapters_evenly_and_a_lost_server_moves_only_its_own() -> None:
    homes = HASHING.table[:, 0]
    counts = np.bincount(homes, minlength=50)
    assert counts.sum() == 2000
    assert counts.min() > 15
    assert counts.max() < 70
    loads, router = Loads(50), ConsistentHashing(HASHING)
    loads.kill(13)
    moved = [router.choose(0, adapter, loads, 0.0) != homes[adapter] for adapter in range(2000)]
    assert moved == (homes == 13).tolist()


@pytest.mark.parametrize("router", [RandomChoice(), LeastLoaded(), ConsistentHashing(HASHING), BoundedLoad(HASHING)])
def test_nothing_goes_to_a_dead_server(router: RandomChoice) -> None:
    loads = Loads(50)
    for server in range(0, 50, 2):
        loads.kill(server)
    for adapter in range(300):
        server = router.choose(adapter, adapter, loads, 0.0)
        assert server % 2 == 1
        loads.add(server, 1)


def test_the_least_loaded_server_is_one_with_the_fewest_requests() -> None:
    loads, router = Loads(50), LeastLoaded()
    for request in range(500):
        server = router.choose(request, 0, loads, 0.0)
        assert loads.of[server] == loads.of.min()
        loads.add(server, 1)
    assert set(loads.of.tolist()) == {10}


def test_with_bounded_load_no_server_gets_more_than_the_bound_and_the_tail_stays_at_home() -> None:
    loads, router = Loads(50), BoundedLoad(HASHING, 1.25, 1, pairs=25)
    draw = np.random.default_rng(0)
    at_home: list[bool] = []
    for adapter in np.minimum(draw.zipf(1.3, 5000), 2000) - 1:
        server = router.choose(0, int(adapter), loads, 0.0)
        loads.add(server, 1)
        assert loads.of[server] <= ceil(1.25 * loads.total / loads.alive)
        if adapter > 50:
            at_home.append(server == HASHING.first(int(adapter))[0])
    assert np.mean(at_home[len(at_home) // 2 :]) > 0.4


def test_an_adapter_that_everybody_asks_for_spreads_over_as_many_servers_as_the_bound_demands() -> None:
    loads, router = Loads(50), BoundedLoad(HASHING, 1.25, 1, pairs=25)
    used: Counter[int] = Counter()
    for _ in range(1000):
        server = router.choose(0, 0, loads, 0.0)
        loads.add(server, 1)
        used[server] += 1
    assert len(used) >= 50 / 1.25
    assert max(used.values()) <= ceil(1.25 * 1000 / 50)


def test_of_the_two_next_servers_the_one_with_less_to_do_gets_the_request() -> None:
    assert choose([4, 2, 7], [0, 0, 5, 0, 3, 0, 0, 1], 4) == 4
    assert choose([4, 2, 7], [0, 0, 5, 0, 4, 0, 0, 1], 4) == 7
    assert choose([4, 2, 7], [0, 0, 5, 0, 4, 0, 0, 6], 4) is None


def test_if_home_and_the_two_next_have_too_much_to_do_the_server_with_the_least_gets_the_request() -> None:
    loads, router = Loads(50), BoundedLoad(HASHING)
    for server in HASHING.first(0)[:3]:
        loads.add(server, 4)
    server = router.choose(0, 0, loads, 0.0)
    assert loads.of[server] == 0
    assert BoundedLoad(HASHING, pairs=2).choose(0, 0, loads, 0.0) in HASHING.first(0)[3:5]


def test_ray_s_router_sends_a_request_where_its_model_is_unless_that_replica_is_full() -> None:
    loads, router = Loads(4), Multiplex([2] * 10, most_ongoing=5)
    assert {router.choose(request, 1, loads, 0.0) for request in range(5)} == {2}
    loads.add(2, 5)
    assert router.choose(9, 1, loads, 0.0) is None
    assert router.wait_s(9) == 0.025
    loads.add(0, 5)
    assert router.choose(9, 1, loads, 0.03) in (None, 1, 3)


def test_ray_s_router_lets_requests_wait_until_the_model_is_reported_at_most_two_seconds() -> None:
    loads, router = Loads(4), Multiplex([2] * 10)
    router.dropped(2, 1)
    server = router.choose(0, 1, loads, 0.0)
    assert server is not None
    router.loaded(server, 1, 0.05)
    assert router.choose(1, 1, loads, 0.06) is None  # loaded, and not reported yet
    assert router.choose(2, 1, loads, REPORT_S + 0.001) == server
    router.dropped(server, 1)
    assert router.choose(3, 1, loads, 1.0) is not None  # nobody has it: the first request goes anywhere
    assert router.choose(4, 1, loads, 1.0) is None
    assert router.choose(4, 1, loads, 1.0 + 2 * MATCH_S) is not None
