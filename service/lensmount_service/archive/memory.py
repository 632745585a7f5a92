"""What the trunk gave for the latest images of requests, in memory. Off unless LENSMOUNT_TRUNK_CACHE_BYTES is set."""

from __future__ import annotations

import threading
from collections import OrderedDict

from lensmount_service.archive.entry import KeptOutput


class MemoryOutputs:
    """`memory.put(key, output)`, `memory.get(key)`; safe from any thread. What was used longest ago goes first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._kept: OrderedDict[str, KeptOutput] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        return self._bytes

    def get(self, key: str) -> KeptOutput | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: str, output: KeptOutput) -> None:
        """Keep it, unless it is larger than all of them together may be."""
        if output.nbytes > self.max_bytes:
            return
        with self._lock:
            if (before := self._kept.pop(key, None)) is not None:
                self._bytes -= before.nbytes
            self._kept[key] = output
            self._bytes += output.nbytes
            while self._bytes > self.max_bytes:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
