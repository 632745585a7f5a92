"""Which adapters are not computed: those that fail `limit` times in a row, and those whose files are damaged or gone.

Only failures that are the adapter's own count: scores that are not finite, and a forward pass that raises on its images
alone. One answer in between starts the count again. The list is in memory, so a restart tries every adapter again, and
each server decides by what it computed itself: another one may have another precision, executor or more memory.
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
    """`quarantine.failed(digest, why)`, `digest in quarantine`; safe from any thread."""

    def __init__(self, limit: int = 3) -> None:
        self.limit = limit
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._held: dict[str, Held] = {}
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
            self._held[digest] = Held(why, time.time())
            return True

    def worked(self, digest: str) -> None:
        """An answer: the adapter's failures before it no longer count."""
        if digest in self._failures:
            with self._lock:
                self._failures.pop(digest, None)

    def damaged(self, digest: str, why: str) -> bool:
        """Hold an adapter whose file is damaged or gone, until it is `mended`. False if it is held already."""
        with self._lock:
            if digest in self._held:
                return False
            self._held[digest] = Held(why, time.time(), is_damaged=True)
            return True

    def mended(self, digest: str) -> bool:
        """The file is as it was written. Ends what `damaged` began, and no quarantine for failures."""
        with self._lock:
            held = self._held.get(digest)
            if held is None or not held.is_damaged:
                return False
            del self._held[digest]
            return True

    def is_damaged(self, digest: str) -> bool:
        held = self._held.get(digest)
        return held is not None and held.is_damaged

    def why(self, digest: str) -> str:
        """Why it is quarantined; "" if it is not."""
        held = self._held.get(digest)
        return "" if held is None else held.why

    def release(self, digest: str) -> bool:
        """Compute the adapter again, from a count of 0. False if it was not quarantined."""
        with self._lock:
            self._failures.pop(digest, None)
            return self._held.pop(digest, None) is not None
