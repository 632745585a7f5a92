"""Our router: rendezvous hashing on the digest with bounded load and two choices.

An adapter goes to its home, the first server of its order, while that has fewer requests than the bound: `BOUND` times
the mean, and at least `LEAST`. Otherwise the two next servers of the order are compared, and the one with less to do
gets the request if it is within the bound; with more `pairs`, so are the two after them. So the adapters that few ask
for stay where their factors are, and one that many ask for spreads (Mirrokni, Thorup and Zadimoghaddam, 2018, with the
two choices of Mitzenmacher, 2001). If all of these have too much to do, the server with the least gets the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from benchmarks.scale.routers.hashing import FIRST, Rendezvous
from benchmarks.scale.routers.router import Loads, Simple

BOUND = 1.25
LEAST = 4  # requests that a home keeps in any case: they share a batch
PAIRS = 1


def choose(order: Sequence[int], loads: Sequence[int], bound: int) -> int | None:
    """The server for an adapter that prefers them in this order, or None if each one has `bound` requests or more."""
    if loads[order[0]] < bound:
        return order[0]
    for place in range(1, len(order), 2):
        server = min(order[place : place + 2], key=lambda each: loads[each])
        if loads[server] < bound:
            return server
    return None


class BoundedLoad(Simple):
    """`pairs` may be more than the hashing computes in advance; then an adapter with its whole order is slower."""

    name = "bounded load"

    def __init__(self, hashing: Rendezvous, bound: float = BOUND, least: int = LEAST, pairs: int = PAIRS) -> None:
        self._hashing = hashing
        self._bound = bound
        self._least = least
        self._places = 1 + 2 * pairs

    def choose(self, request: int, adapter: int, loads: Loads, now: float) -> int:
        bound = max(self._least, ceil(self._bound * (loads.total + 1) / loads.alive))
        of: Sequence[int] = loads.of  # type: ignore[assignment]  # an array of numbers
        server = choose(self._hashing.first(adapter)[: self._places], of, bound)
        if server is None and self._places > FIRST:
            server = choose(self._hashing.order(adapter)[: self._places], of, bound)
        return int(loads.of.argmin()) if server is None else server
