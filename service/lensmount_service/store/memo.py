"""A lookup cache that is invalidated when its source's version stamp changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from lensmount_service.errors import Unavailable

K = TypeVar("K")
V = TypeVar("V")


class StampedCache(Generic[K, V]):
    """`cache.get_or_load(key, load)` loads a value once, then `cache.get(key)` returns it; safe from any thread.

    `stamp` returns the state of the source: equal stamps mean equal values, and None means that the state is unknown.
    At most `max_entries` values are kept. Errors are not cached.
    """

    def __init__(self, stamp: Callable[[], object | None], max_entries: int = 1024) -> None:
        self._stamp = stamp
        self._max_entries = max_entries
        self._values: tuple[object | None, dict[K, V]] = (None, {})  # a stamp and its values; replaced as a whole
        self._writing = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value of the current state, or None if it has to be loaded."""
        stamp, values = self._values
        cached = values.get(key)
        return None if cached is None or self._stamp() != stamp else cached

    def get_or_load(self, key: K, load: Callable[[K], V]) -> V:
        """The value of the current state. Raises what `load` raises.

        While the source cannot be read, it is the value that was loaded last, if there is one.
        """
        cached = self.get(key)
        if cached is not None:
            return cached
        stamp = self._stamp()  # before `load`, so that a change during the load is not missed
        try:
            value = load(key)
        except Unavailable:
            known = self._values[1].get(key)
            if known is None:
                raise
            return known
        if stamp is not None:
            self._put(stamp, key, value)
        return value

    def _put(self, stamp: object, key: K, value: V) -> None:
        with self._writing:
            current, values = self._values
            if stamp != current or len(values) >= self._max_entries:
                values = {}
                self._values = (stamp, values)
            values[key] = value
