"""Rendezvous hashing: the order in which an adapter prefers the servers, the same for every door.

A server that goes only moves the adapters that it had, each to the next server of its order (Thaler and Ravishankar,
1998).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

FIRST = 9  # servers of each adapter's order that are computed in advance: one, and four times two
CHUNK = 2048


def mixed(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each key as 64 bits that look random: the finaliser of splitmix64."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


class Rendezvous:
    """`Rendezvous(servers=4, adapters=100).order(7)`; `first(7)` is its beginning, for most purposes enough."""

    def __init__(self, servers: int, adapters: int) -> None:
        self.servers = servers
        self.adapters = adapters
        self._of_servers = mixed(np.arange(1, servers + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        self._orders: dict[int, list[int]] = {}

    @cached_property
    def table(self) -> NDArray[np.int32]:
        """[adapters, first servers]: the beginning of every adapter's order."""
        count = min(FIRST, self.servers)
        table = np.empty((self.adapters, count), np.int32)
        for start in range(0, self.adapters, CHUNK):
            weights = self._weights(np.arange(start, min(start + CHUNK, self.adapters)))
            best = np.argpartition(weights, self.servers - count, axis=1)[:, self.servers - count :]
            order = np.argsort(np.take_along_axis(weights, best, 1), axis=1)[:, ::-1]
            table[start : start + CHUNK] = np.take_along_axis(best, order, 1)
        return table

    def first(self, adapter: int) -> list[int]:
        """The first servers of the adapter's order."""
        return self.table[adapter].tolist()  # type: ignore[no-any-return]  # a row is a list of int

    def order(self, adapter: int) -> list[int]:
        """All servers, the one that the adapter prefers first."""
        if adapter not in self._orders:
            self._orders[adapter] = np.argsort(self._weights(np.array([adapter]))[0])[::-1].tolist()
        return self._orders[adapter]

    def _weights(self, adapters: NDArray[np.int64]) -> NDArray[np.uint64]:
        keys = mixed(adapters.astype(np.uint64) + np.uint64(1))
        return mixed(keys[:, None] ^ self._of_servers[None, :])
