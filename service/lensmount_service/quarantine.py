"""Which adapters fail: after `limit` failures in a row, an adapter is not computed until someone releases it.

Only failures that are the adapter's own count: scores that are not finite, and a forward pass that raises on its images
alone. One answer in between starts the count again. The list is in memory, so a restart tries every adapter again.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

MOST_COUNTED = 10_000  # digests with failures; the oldest are forgotten first


class Quarantine:
    """`quarantine.failed(digest, why)`, `digest in quarantine`; safe from any thread."""

    def __init__(self, limit: int = 3) -> None:
        self.limit = limit
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._held: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def __contains__(self, digest: str) -> bool:
        return digest in self._held

    def __len__(self) -> int:
        return len(self._held)

    def failed(self, digest: str, why: str) -> bool:
        """Count a failure. True if the adapter is quarantined by it."""
        with self._lock:
            count = self._failures.pop(digest, 0) + 1
            self._failures[digest] = count
            while len(self._failures) > MOST_COUNTED:
                self._failures.popitem(last=False)
            if count < self.limit or digest in self._held:
                return False
            self._held[digest] = why, time.time()
            return True

    def worked(self, digest: str) -> None:
        """An answer: the adapter's failures before it no longer count."""
        if digest in self._failures:
            with self._lock:
                self._failures.pop(digest, None)

    def why(self, digest: str) -> str:
        """Why it is quarantined; "" if it is not."""
        return self._held.get(digest, ("", 0.0))[0]

    def release(self, digest: str) -> bool:
        """Compute the adapter again, from a count of 0. False if it was not quarantined."""
        with self._lock:
            self._failures.pop(digest, None)
            return self._held.pop(digest, None) is not None
