"""Which leases were renewed in time, as this process saw it. No wall clock takes part, so it may jump by any amount.

A lease has expired if this process has seen the same lease, not renewed, for `lease_s` seconds by its monotonic clock.
A dead worker's job is thus free at most two lease times after its last beat: one until somebody looks, one to be sure.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable


class LeaseWatch:
    """`watch.expired([(job_id, token, lease_until), ...])`, of all jobs that run now; safe from any thread."""

    def __init__(self, lease_s: float, clock: Callable[[], float]) -> None:
        self._lease_s = lease_s
        self._clock = clock
        self._seen: dict[str, tuple[object, float]] = {}  # job to its lease, and when it was seen first
        self._lock = threading.Lock()

    def renewed(self, job_id: str, token: str, lease_until: float) -> None:
        """This process itself renewed a lease."""
        with self._lock:
            self._seen[job_id] = ((token, lease_until), self._clock())

    def expired(self, leases: Iterable[tuple[str, str, float]]) -> list[str]:
        """The jobs whose lease has expired. `lease_until` is only compared with what it was before."""
        now = self._clock()
        with self._lock:
            before, self._seen = self._seen, {}
            for job_id, token, lease_until in leases:
                lease = (token, lease_until)
                known = before.get(job_id)
                self._seen[job_id] = known if known is not None and known[0] == lease else (lease, now)
            return [job_id for job_id, (_, since) in self._seen.items() if now - since > self._lease_s]
