"""A fleet that has run for a long time: how requests are routed decides what each server has in memory and on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, log
from typing import TypeVar

import numpy as np
from benchmarks.scale.costs import MachineCosts
from benchmarks.scale.routers.bounded import LEAST, PAIRS, BoundedLoad
from benchmarks.scale.routers.hashing import Rendezvous, mixed
from benchmarks.scale.routers.multiplex import Multiplex
from benchmarks.scale.routers.router import Router
from benchmarks.scale.routers.simple import ConsistentHashing, LeastLoaded, RandomChoice
from benchmarks.scale.tiers import HotPlaces, OwnPlaces, Places, PooledPlaces, Recent
from benchmarks.scale.workload import Workload
from numpy.typing import NDArray

HALF_LIFE = 2048  # images, of the service's cache of hot programs
ON_DISK = 3  # servers of an adapter's order that have its file, because it went there at some time
T = TypeVar("T")
CLAIRVOYANT = "clairvoyant"


@dataclass(frozen=True)
class Fleet:
    """`servers` of one kind. `router(name)` and `places(name, workload, router)` are for `simulate`."""

    servers: int
    costs: MachineCosts
    hashing: Rendezvous
    cache_bytes: int = 2**29
    hot_bytes: int = 2**29
    disk_bytes: int = 10 * 2**30

    @property
    def in_memory(self) -> int:
        """Adapters in the memory of one server."""
        return self.cache_bytes // self.costs.factor_bytes

    @property
    def hot_places(self) -> int:
        return self.hot_bytes // self.costs.hot_bytes

    def router(self, name: str, seed: int = 0, *, least: int = LEAST, pairs: int = PAIRS) -> Router:
        made: dict[str, Callable[[], Router]] = {
            RandomChoice.name: lambda: RandomChoice(seed),
            LeastLoaded.name: lambda: LeastLoaded(seed),
            ConsistentHashing.name: lambda: ConsistentHashing(self.hashing),
            BoundedLoad.name: lambda: BoundedLoad(self.hashing, least=least, pairs=pairs),
            Multiplex.name: lambda: Multiplex(self.hashing.table[:, 0].tolist(), seed=seed),
            CLAIRVOYANT: lambda: LeastLoaded(seed),
        }
        return made[name]()

    def places(self, name: str, workload: Workload, router: Router) -> list[Places]:
        if name == CLAIRVOYANT:
            return [PooledPlaces(self.hot_places * self.servers)] * self.servers
        anywhere = name in (RandomChoice.name, LeastLoaded.name)
        memories = self._drawn(workload) if anywhere else self._homes(workload)
        on_disk = self._on_disk_anywhere(workload) if anywhere else self._on_disk_at_home
        places: list[Places] = []
        for server, adapters in enumerate(memories):
            hot = HotPlaces(self.costs, self.hot_bytes)
            share = workload.shares[adapters[::-1][: 4 * self.hot_places]]
            total = 1.0 if anywhere else max(workload.shares[adapters].sum(), 1 / self.servers)
            hot.warm(zip(adapters[::-1].tolist(), (share / total * HALF_LIFE / log(2)).tolist(), strict=False))
            memory = Recent(self.in_memory, adapters.tolist())
            places.append(OwnPlaces(self.costs, memory, hot, bound(on_disk, server), bound(router.dropped, server)))
        return places

    def _homes(self, workload: Workload) -> list[NDArray[np.int64]]:
        """For each server the adapters whose home it is, from the least to the most used one, as many as fit.

        An adapter that is asked for more than a server can answer has as many homes as it needs.
        """
        homes: list[list[int]] = [[] for _ in range(self.servers)]
        for adapter, server in enumerate(self.hashing.table[: workload.adapters, 0].tolist()):
            homes[server].append(adapter)
        for adapter in range(min(self.servers, workload.adapters)):
            needed = min(self.servers, ceil(float(workload.shares[adapter]) * self.servers))
            for server in self.hashing.order(adapter)[1:needed]:
                homes[server].append(adapter)
        return [np.sort(np.array(home, np.int64))[: self.in_memory][::-1] for home in homes]

    def _drawn(self, workload: Workload) -> Iterator[NDArray[np.int64]]:
        """For each server the adapters of its latest requests, drawn, until its memory is full."""
        draw = np.random.default_rng(workload.seed + 1)
        cumulated = np.cumsum(workload.shares)
        most = min(self.in_memory, workload.adapters)
        for _ in range(self.servers):
            asked = np.array([], np.int64)
            while len(np.unique(asked)) < most and len(asked) < 64 * most:
                more = np.searchsorted(cumulated, draw.random(4 * most))
                asked = np.concatenate([asked, np.minimum(more, workload.adapters - 1)])
            _, latest = np.unique(asked, return_index=True)  # the request at 0 is the latest
            kept = asked[np.sort(latest)[:most]]
            yield np.sort(kept)[::-1]

    def _on_disk_anywhere(self, workload: Workload) -> Callable[[int, int], bool]:
        """Drawn with the probability that a file is among the latest that its server used (Che's approximation)."""
        files = self.disk_bytes // self.costs.factor_bytes
        if files >= workload.adapters:
            return lambda server, adapter: True
        low, high = 0.0, 1e15
        for _ in range(100):  # requests after which a file that nobody asked for is gone
            window = (low * high) ** 0.5 if low else high / 2
            low, high = (window, high) if (1 - np.exp(-workload.shares * window)).sum() < files else (low, window)
        odds = 1 - np.exp(-workload.shares * high)
        return lambda server, adapter: drawn(server, adapter) < odds[adapter]

    def _on_disk_at_home(self, server: int, adapter: int) -> bool:
        return server in self.hashing.first(adapter)[:ON_DISK]


def drawn(server: int, adapter: int) -> float:
    """A number between 0 and 1 that is the same for the same server and adapter."""
    key = np.array([(server << 32) + adapter + 1], np.uint64)
    return float(mixed(key)[0] >> np.uint64(11)) / float(1 << 53)


def bound(call: Callable[..., T], server: int) -> Callable[..., T]:
    return lambda *given: call(server, *given)
