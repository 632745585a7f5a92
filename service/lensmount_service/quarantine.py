"""Which adapters are not computed: those that fail `limit` times in a row, and those whose files are damaged or gone.

Only failures that are the adapter's own count: scores that are not finite, and a forward pass that raises on its images
alone. One answer in between starts the count again. Each tenant counts its own requests, and they quarantine an adapter
for this tenant: otherwise its images could take the same bytes from another. A damaged file is so for all.

The list is in memory, so a restart tries every adapter again, and each server decides by what it computed itself:
another one may have another precision, executor or more memory.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

MOST_COUNTED = 10_000  # digests with failures; the oldest are forgotten first


@dataclass(frozen=True, slots=True)
class Held:
    """Why an adapter is quarantined, and since when, in seconds since the epoch."""

    why: str
    since: float
    is_damaged: bool = False


class Quarantine:
    """`quarantine.failed(digest, why, "lab1")`, `quarantine.holds(digest, "lab1")`; safe from any thread."""

    def __init__(self, limit: int = 3) -> None:
        self.limit = limit
        self._failures: OrderedDict[tuple[str, str], int] = OrderedDict()  # by digest and tenant
        self._failed: dict[tuple[str, str], Held] = {}
        self._damaged: dict[str, Held] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """The number of adapters that are held for somebody."""
        with self._lock:
            return len({digest for digest, _ in self._failed} | self._damaged.keys())

    def held(self, digest: str, tenant: str = "") -> Held | None:
        return self._damaged.get(digest) or self._failed.get((digest, tenant))

    def holds(self, digest: str, tenant: str = "") -> bool:
        return self.held(digest, tenant) is not None

    def failed(self, digest: str, why: str, tenant: str = "") -> bool:
        """Count a failure. True if the adapter is quarantined by it."""
        key = digest, tenant
        with self._lock:
            count = self._failures.pop(key, 0) + 1
            self._failures[key] = count
            while len(self._failures) > MOST_COUNTED:
                self._failures.popitem(last=False)
            if count < self.limit or key in self._failed:
                return False
            self._failed[key] = Held(why, time.time())
            return True

    def worked(self, digest: str, tenant: str = "") -> None:
        """An answer: the adapter's failures before it no longer count."""
        if (digest, tenant) in self._failures:
            with self._lock:
                self._failures.pop((digest, tenant), None)

    def damaged(self, digest: str, why: str) -> bool:
        """Hold an adapter whose file is damaged or gone, until it is `mended`. False if it is held already."""
        with self._lock:
            if digest in self._damaged:
                return False
            self._damaged[digest] = Held(why, time.time(), is_damaged=True)
            return True

    def mended(self, digest: str) -> bool:
        """The file is as it was written. Ends what `damaged` began, and no quarantine for failures."""
        with self._lock:
            return self._damaged.pop(digest, None) is not None

    def why(self, digest: str, tenant: str = "") -> str:
        """Why it is quarantined; "" if it is not."""
        held = self.held(digest, tenant)
        return "" if held is None else held.why

    def release(self, digest: str) -> bool:
        """Compute the adapter again for every tenant, from a count of 0. False if nobody's failures had quarantined it.

        A damaged file stays so until it is mended.
        """
        with self._lock:
            for counted in [key for key in self._failures if key[0] == digest]:
                del self._failures[counted]
            lifted = [key for key in self._failed if key[0] == digest]
            for key in lifted:
                del self._failed[key]
            return bool(lifted)
