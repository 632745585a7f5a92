"""Admitted adapters in memory. The least recently used one is evicted first; each is read and checked once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_service.tracing.span import stage


class AdapterCache:
    """`cache.get(digest)` returns the adapter and loads it if needed. Concurrent callers share one load."""

    def __init__(
        self, load: Callable[[str], Adapter], max_bytes: int, on_evict: Callable[[Adapter], None] = lambda _: None
    ) -> None:
        self._load = load
        self._max_bytes = max_bytes
        self._on_evict = on_evict
        self._adapters: OrderedDict[str, Adapter] = OrderedDict()
        self._loading: dict[str, Future[Adapter]] = {}
        self._lock = threading.Lock()
        self._pins: set[str] = set()
        self._bytes = 0

    def get(self, digest: str) -> Adapter:
        """Raises what `load` raises. A failure is not cached."""
        with self._lock:
            if digest in self._adapters:
                self._adapters.move_to_end(digest)
                return self._adapters[digest]
            is_first = digest not in self._loading
            future = self._loading.setdefault(digest, Future())
        if not is_first:
            with stage("admit", digest=digest):
                return future.result()
        try:
            with stage("admit", digest=digest):
                adapter = self._load(digest)
        except BaseException as error:
            with self._lock:
                del self._loading[digest]
            future.set_exception(error)
            raise
        self.put(adapter)
        with self._lock:
            del self._loading[digest]
        future.set_result(adapter)
        return adapter

    def find(self, digest: str) -> Adapter | None:
        """The adapter if it is in memory. Does not wait for a load."""
        with self._lock:
            adapter = self._adapters.get(digest)
            if adapter is not None:
                self._adapters.move_to_end(digest)
            return adapter

    def holds(self, digest: str) -> bool:
        """True if the adapter is in memory. The check does not count as a use."""
        with self._lock:
            return digest in self._adapters

    def put(self, adapter: Adapter) -> None:
        with self._lock:
            if adapter.digest not in self._adapters:
                self._bytes += adapter.nbytes()
            self._adapters[adapter.digest] = adapter
            self._adapters.move_to_end(adapter.digest)
            evicted = []
            for digest in [d for d in self._adapters if d not in self._pins and d != adapter.digest]:
                if self._bytes <= self._max_bytes:
                    break
                evicted.append(self._adapters.pop(digest))
                self._bytes -= evicted[-1].nbytes()
        for old in evicted:
            self._on_evict(old)

    def pin(self, digest: str, pinned: bool) -> None:
        """A pinned adapter is never evicted. Its bytes still count."""
        with self._lock:
            (self._pins.add if pinned else self._pins.discard)(digest)

    def drop(self, digest: str) -> None:
        with self._lock:
            self._pins.discard(digest)
            adapter = self._adapters.pop(digest, None)
            if adapter is not None:
                self._bytes -= adapter.nbytes()

    def digests(self) -> list[str]:
        """What is in memory."""
        with self._lock:
            return list(self._adapters)

    def resident(self) -> dict[str, int]:
        """Bytes held by digest."""
        with self._lock:
            return {digest: adapter.nbytes() for digest, adapter in self._adapters.items()}
