"""What limited tokens use: requests, pixels and bytes in a minute, and their share of the queue.

It is kept in memory, so that several servers on one database count for themselves. A quota of N a minute is a bucket
that holds N and refills evenly. One number per token and quota says until when what was used is paid off (the generic
cell rate algorithm of ATM networks, ITU-T I.371): after a whole minute is used, an N-th of it is free again
in 60/N seconds.

Safe from any thread: `_lock` guards all of this.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from lensmount_service.access.identity import Identity, Quotas
from lensmount_service.errors import BodyTooLarge, QuotaExceeded

Rate = Literal["requests_per_minute", "bytes_per_minute", "pixels_per_minute"]
RATES: dict[Rate, str] = {  # with the quota unit of draft-ietf-httpapi-ratelimit-headers
    "requests_per_minute": "requests",
    "bytes_per_minute": "content-bytes",
    "pixels_per_minute": "pixels",
}
UNLIMITED = Quotas()
WINDOW_S = 60.0
MAX_RATES = 4096  # kept; above this, those that are paid off are forgotten


@dataclass(frozen=True, slots=True)
class Charge:
    """What was charged, so that it can be refunded."""

    key: tuple[str, Rate]
    seconds: float


class Meter:
    """`charge = meter.charge(identity, "pixels_per_minute", 5_000_000)`, and `meter.refund(charge)` if refused."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paid_off_at: dict[tuple[str, Rate], float] = {}
        self._lock = threading.Lock()
        self._in_queue: dict[str, int] = {}  # images of each limited token that wait or are computed

    def charge(self, identity: Identity, rate: Rate, cost: int) -> Charge | None:
        """None if the token has no such limit.

        Raises QuotaExceeded, which says when the cost fits, or BodyTooLarge if it never does. Then nothing is charged.
        """
        limit: int | None = getattr(identity.quotas, rate)
        if limit is None or cost <= 0:
            return None
        if cost > limit:
            raise BodyTooLarge(
                f"found a request of {cost} {RATES[rate]}, expected at most {limit}, which is what this token may use "
                f"in a minute ({rate}). Fix: send less in one request, or ask your administrator for a larger quota",
                code="body_too_large" if rate == "bytes_per_minute" else "batch_too_large",
            )
        with self._lock:
            return self._charged(identity, rate, limit, cost)

    def _charged(self, identity: Identity, rate: Rate, limit: int, cost: int) -> Charge:
        now = self._clock()
        charge = Charge((identity.key, rate), cost * WINDOW_S / limit)
        paid_off_at = max(now, self._paid_off_at.get(charge.key, now)) + charge.seconds
        too_early_s = paid_off_at - now - WINDOW_S
        if too_early_s > 1e-9:
            raise QuotaExceeded(
                f"found {rate} of this token used up: {limit} in a minute. "
                f"Fix: send this request again in {math.ceil(too_early_s)} s, or ask your administrator for more",
                retry_after_s=math.ceil(too_early_s),
            )
        if len(self._paid_off_at) >= MAX_RATES:
            self._paid_off_at = {key: at for key, at in self._paid_off_at.items() if at > now}
        self._paid_off_at[charge.key] = paid_off_at
        return charge

    def refund(self, charge: Charge | None) -> None:
        """Give back what a refused request was charged."""
        with self._lock:
            if charge is not None and charge.key in self._paid_off_at:
                self._paid_off_at[charge.key] -= charge.seconds

    @contextmanager
    def queued(self, identity: Identity, images: int, max_queue: int) -> Iterator[None]:
        """Count these images while they are in the queue. Raises QuotaExceeded, or BodyTooLarge if they never fit."""
        if identity.quotas.queue_share is None:
            yield
            return
        self._enter(identity, images, self.share(identity, max_queue))
        try:
            yield
        finally:
            self._leave(identity, images)

    def share(self, identity: Identity, max_queue: int) -> int:
        """How many images of a token may be in the queue: at least one."""
        share = identity.quotas.queue_share
        return max_queue if share is None else max(1, int(share * max_queue))

    def _enter(self, identity: Identity, images: int, most: int) -> None:
        if images > most:
            raise BodyTooLarge(
                f"found {images} images times adapters, expected at most {most}, the share of the queue of this token. "
                "Fix: send fewer in one request",
                code="batch_too_large",
            )
        with self._lock:
            now = self._in_queue.get(identity.key, 0)
            if now + images <= most:
                self._in_queue[identity.key] = now + images
                return
        raise QuotaExceeded(
            f"found {now} images of this token in the queue, expected at most {most} (queue_share). "
            "Fix: send this request again when one of the others is answered",
            retry_after_s=1,
        )

    def _leave(self, identity: Identity, images: int) -> None:
        with self._lock:
            left = self._in_queue[identity.key] - images
            if left:
                self._in_queue[identity.key] = left
            else:
                del self._in_queue[identity.key]

    def used(self, identity: Identity) -> dict[str, float]:
        """What counts against each limit at this moment, by the name of the quota."""
        used: dict[str, float] = {}
        for rate in RATES:
            limit = getattr(identity.quotas, rate)
            if limit is not None:
                used[rate] = round(self._owed_s(identity, rate) / WINDOW_S * limit, 3)
        if identity.quotas.queue_share is not None:
            used["queue_share"] = float(self._in_queue.get(identity.key, 0))
        return used

    def headers(self, identity: Identity) -> dict[str, str]:
        """RateLimit-Policy and RateLimit: per quota its limit, what is left, and in how many seconds it is full."""
        policies, states = [], []
        for rate, unit in RATES.items():
            limit = getattr(identity.quotas, rate)
            if limit is None:
                continue
            name, owed_s = rate.partition("_")[0], self._owed_s(identity, rate)
            policies.append(f'"{name}";q={limit};qu="{unit}";w={WINDOW_S:.0f}')
            left = max(0, math.floor((WINDOW_S - owed_s) / WINDOW_S * limit + 1e-6))
            states.append(f'"{name}";r={left};t={math.ceil(owed_s)}')
        return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)} if policies else {}

    def _owed_s(self, identity: Identity, rate: Rate) -> float:
        return max(0.0, self._paid_off_at.get((identity.key, rate), 0.0) - self._clock())
