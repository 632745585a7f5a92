"""Where the simulation believes that adapters are, compared with the caches of the service."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

from benchmarks.scale.costs import MachineCosts
from benchmarks.scale.tiers import HotPlaces, OwnPlaces, Recent, Tier

from lensmount_service.store.adapter_cache import AdapterCache

COSTS = MachineCosts.read()


def test_the_most_recent_keys_are_those_that_the_service_s_cache_keeps() -> None:
    def load(digest: str) -> Any:
        return SimpleNamespace(digest=digest, nbytes=lambda: 10)

    draw, recent, cache = Random(0), Recent(20), AdapterCache(load, 205)
    for _ in range(2000):
        key = int(30 * draw.random() ** 2)
        assert (key in recent) == cache.holds(str(key))
        recent.use(key)
        cache.get(str(key))
    assert len(recent) == len(cache.digests()) == 20


def test_an_adapter_is_fetched_once_and_who_asks_meanwhile_waits_for_it() -> None:
    places = OwnPlaces(COSTS, Recent(2), HotPlaces(COSTS, 0), lambda adapter: adapter < 10)
    assert places.find(3, 0.0) == (Tier.file, None)
    assert places.find(50, 0.0) == (Tier.remote, None)
    assert places.load_s(Tier.remote) == (COSTS.fetch_s, COSTS.admit_s)
    places.loading(50, 1.0)
    assert places.find(50, 0.5) == (Tier.remote, 1.0)
    assert places.find(50, 2.0) == (Tier.memory, 2.0)
    for adapter in (1, 2):
        places.loading(adapter, 2.0)
    assert places.find(50, 3.0) == (Tier.file, None)  # out of memory, and now on the disk
    places.lose()
    assert places.find(50, 4.0) == places.find(3, 4.0) == (Tier.remote, None)


def test_a_hot_program_is_there_once_the_background_thread_has_made_it() -> None:
    hot = HotPlaces(COSTS, 10 * COSTS.hot_bytes)
    hot.used([(7, 2)], 0.0)
    assert 7 not in hot
    hot.used([(8, 1)], COSTS.bind_s + 0.001)
    assert 7 in hot
    assert 8 not in hot
