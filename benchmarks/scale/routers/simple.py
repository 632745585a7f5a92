"""Routers that look at nothing, at the load alone, or at the adapter alone."""

from __future__ import annotations

from random import Random

import numpy as np
from benchmarks.scale.routers.hashing import Rendezvous
from benchmarks.scale.routers.router import DEAD, Loads, Simple


class RandomChoice(Simple):
    """Any server."""

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self._draw = Random(seed)

    def choose(self, request: int, adapter: int, loads: Loads, now: float) -> int:
        while True:
            server = self._draw.randrange(loads.servers)
            if loads.of[server] < DEAD:
                return server


class LeastLoaded(Simple):
    """One of the servers with the fewest requests."""

    name = "least loaded"

    def __init__(self, seed: int = 0) -> None:
        self._draw = Random(seed)

    def choose(self, request: int, adapter: int, loads: Loads, now: float) -> int:
        fewest = np.flatnonzero(loads.of == loads.of.min())
        return int(fewest[self._draw.randrange(len(fewest))])


class ConsistentHashing(Simple):
    """The first server of the adapter's order, however much it has to do."""

    name = "consistent hashing"

    def __init__(self, hashing: Rendezvous) -> None:
        self._hashing = hashing

    def choose(self, request: int, adapter: int, loads: Loads, now: float) -> int:
        for server in self._hashing.first(adapter):
            if loads.of[server] < DEAD:
                return server
        return next(server for server in self._hashing.order(adapter) if loads.of[server] < DEAD)
