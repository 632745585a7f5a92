"""Our router: rendezvous hashing on the digest with bounded load and two choices.

An adapter goes to its first server while that has at most `bound` times the mean load. Otherwise the two next servers
of its order are compared, and so on in twos: the one with less to do gets the request if it is within the bound. So the
adapters that nobody asks for much stay where their factors are, and one that is asked for more than a server can answer
spreads over as many as it needs (Mirrokni, Thorup and Zadimoghaddam, 2018, with the two choices of Mitzenmacher, 2001).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from benchmarks.scale.routers.hashing import Rendezvous
from benchmarks.scale.routers.router import DEAD, Loads, Simple

BOUND = 1.25
SLACK = 4.0


def choose(order: Sequence[int], loads: Sequence[int], limit: int) -> int | None:
    """The server for an adapter that prefers them in this order, or None if each one has more than `limit` requests."""
    if loads[order[0]] <= limit:
        return order[0]
    for place in range(1, len(order), 2):
        server = min(order[place : place + 2], key=lambda each: loads[each])
        if loads[server] <= limit:
            return server
    return None


class BoundedLoad(Simple):
    """`slack` is the number of requests beyond the mean that a server may always have."""

    name = "bounded load"

    def __init__(self, hashing: Rendezvous, bound: float = BOUND, slack: float = SLACK) -> None:
        self._hashing = hashing
        self._bound = bound
        self._slack = slack

    def choose(self, request: int, adapter: int, loads: Loads, now: float) -> int:
        mean = (loads.total + 1) / loads.alive
        limit = ceil(max(self._bound * mean, mean + self._slack)) - 1  # so that this request still fits
        of: Sequence[int] = loads.of  # type: ignore[assignment]  # an array of numbers
        server = choose(self._hashing.first(adapter), of, limit)
        if server is None:
            server = choose(self._hashing.order(adapter), of, limit)
        if server is None or loads.of[server] >= DEAD:
            return int(loads.of.argmin())
        return server
