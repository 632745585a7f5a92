"""Which replica answers a request: rendezvous hashing on the adapter's digest, with bounded load and two choices.

Every adapter has an order of all replicas, by a hash of both (rendezvous hashing, Thaler and Ravishankar 1998). Its
requests go to the first of them, its home, so each replica keeps a share of the adapters in memory. If a replica
leaves, only its own adapters move, and they spread over all others. A home that has more than `SLACK` times the mean
load (consistent hashing with bounded loads, Mirrokni et al. 2018) gives the request to the less loaded of the next two
in the order (Mitzenmacher 2001), so that a hot adapter spreads while the others stay where they are.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping

SLACK = 1.25  # times the mean load, before a home gives requests away
SMALL_LOAD = 4  # requests that a home keeps in any case: they share a batch, and elsewhere they would not


def ranked(key: str, loads: Mapping[str, int], tried: Collection[str] = (), *, at_home: bool = True) -> list[str]:
    """All replicas, best first. `loads` are the requests in progress at each one.

    `key` is the adapter's digest. Without an adapter (`at_home=False`) the order is by load, and `key`, which is then
    the request's own, decides among equals. Those that were `tried` come last.
    """
    fresh = {name: load for name, load in loads.items() if name not in tried}
    spent = {name: load for name, load in loads.items() if name in tried}
    return [order for part in (fresh, spent) for order in (_at_home(key, part) if at_home else _by_load(key, part))]


def _at_home(key: str, loads: Mapping[str, int]) -> list[str]:
    if not loads:
        return []
    order = sorted(loads, key=lambda name: _weight(key, name), reverse=True)
    bound = max(SMALL_LOAD, math.ceil(SLACK * (sum(loads.values()) + 1) / len(loads)))
    if loads[order[0]] < bound:
        return order
    first = min(order[1:3] or order, key=lambda name: loads[name])  # the earlier one of equals
    if loads[first] >= bound:
        first = min(order, key=lambda name: loads[name])
    return [first, *(name for name in order if name != first)]


def _by_load(key: str, loads: Mapping[str, int]) -> list[str]:
    return sorted(loads, key=lambda name: (loads[name], _weight(key, name)))


def _weight(key: str, name: str) -> bytes:
    """Equal on all machines and in all versions of Python."""
    return hashlib.blake2b(f"{key}\n{name}".encode(), digest_size=8).digest()
