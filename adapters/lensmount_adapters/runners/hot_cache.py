"""A cache for programs with merged weights: a budget in bytes, pins, and no eviction without a clear reason.

A least-recently-used list collapses as soon as the working set is larger than the cache: every use evicts the entry
that is needed next (the 44-fold loss reported for 25 slots). Here a new entry evicts only those that were used much
less recently. Under a uniform load the entries therefore stay, and all other adapters are served from their factors.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Use:
    """Images requested for one key; `score` halves with every `half_life` images requested for any key."""

    score: float = 0.0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Held(Generic[T]):
    """An entry, and the bytes that evicting it frees."""

    value: T
    nbytes: int


@dataclass(slots=True)
class HotCache(Generic[T]):
    """`cache.get(key)`; `cache.record_use(key, images)`; then `put` if `cache.should_admit(key, nbytes)`.

    `max_bytes` bounds all entries together. Pinned entries are never evicted. `threshold`: recent images that a key
    needs to be admitted. `margin`: how many times as many it needs as an entry that it evicts. Safe from any thread.
    """

    max_bytes: int
    threshold: float = 1.5
    margin: float = 2.0
    half_life: int = 2048
    _held: dict[Hashable, Held[T]] = field(default_factory=dict)
    _uses: dict[Hashable, _Use] = field(default_factory=dict)
    _pins: set[Hashable] = field(default_factory=set)
    _images: float = 0.0
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: Hashable) -> T | None:
        with self._lock:
            held = self._held.get(key)
            return held.value if held else None

    def record_use(self, key: Hashable, images: float) -> None:
        """Count images requested for a key, whether or not it is in the cache."""
        with self._lock:
            self._images += images
            use = self._uses.setdefault(key, _Use(at=self._images))
            use.score = self._score(use) + images
            use.at = self._images
            if len(self._uses) > 4 * (1024 + len(self._held)):
                self._forget()

    def expect(self, key: Hashable, like: Hashable, share: float) -> None:
        """Count this share of the uses of `like` for the key too, because as many images are expected for it."""
        with self._lock:
            use = self._uses.setdefault(key, _Use(at=self._images))
            use.score = max(self._score(use), share * self._score_of(like))
            use.at = self._images

    def retire(self, key: Hashable) -> None:
        """Forget the uses of a key for which no more images are expected, so that it gives way before others."""
        with self._lock:
            self._uses.pop(key, None)

    def should_admit(self, key: Hashable, nbytes: int) -> bool:
        """Whether to make an entry for the key now: it is used enough, and there is room or less used entries."""
        with self._lock:
            if key in self._held:
                return False
            if key not in self._pins and self._score_of(key) < self.threshold:
                return False
            return self._victims(key, nbytes) is not None

    def has_room(self, nbytes: int) -> bool:
        """Whether there is room without evicting anything."""
        with self._lock:
            return self._bytes + nbytes <= self.max_bytes

    def put(self, key: Hashable, value: T, nbytes: int) -> bool:
        """Add an entry. Returns False if there is one already, or if a more used one would have to be evicted."""
        with self._lock:
            victims = None if key in self._held else self._victims(key, nbytes)
            if victims is None:
                return False
            for victim in victims:
                self._bytes -= self._held.pop(victim).nbytes
            self._held[key] = Held(value, nbytes)
            self._bytes += nbytes
            return True

    def drop(self, key: Hashable) -> None:
        """Remove the entry, its uses and its pin."""
        with self._lock:
            held = self._held.pop(key, None)
            self._bytes -= held.nbytes if held else 0
            self._uses.pop(key, None)
            self._pins.discard(key)

    def shed(self) -> int:
        """Drop every entry that is not pinned; returns the bytes that they had. Their uses are still counted."""
        with self._lock:
            freed = [self._held.pop(key).nbytes for key in list(self._held) if key not in self._pins]
            self._bytes -= sum(freed)
            return sum(freed)

    def pin(self, key: Hashable, pinned: bool = True) -> None:
        """Pin or unpin a key. A pinned key is admitted without any use."""
        with self._lock:
            (self._pins.add if pinned else self._pins.discard)(key)

    def pinned(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._pins

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._held

    def __len__(self) -> int:
        with self._lock:
            return len(self._held)

    @property
    def nbytes(self) -> int:
        with self._lock:
            return self._bytes

    @property
    def tracked(self) -> int:
        """How many keys have counted uses, with or without an entry."""
        with self._lock:
            return len(self._uses)

    def _victims(self, key: Hashable, nbytes: int) -> list[Hashable] | None:
        """The least used entries to evict for the key; none if there is room, None if they may not be evicted."""
        if nbytes > self.max_bytes:
            return None
        victims: list[Hashable] = []
        free = self.max_bytes - self._bytes
        score = self._score_of(key)
        for candidate in sorted((k for k in self._held if k not in self._pins), key=self._score_of):
            if free >= nbytes:
                break
            if key not in self._pins and self.margin * self._score_of(candidate) > score:
                return None
            free += self._held[candidate].nbytes
            victims.append(candidate)
        return victims if free >= nbytes else None

    def _score_of(self, key: Hashable) -> float:
        use = self._uses.get(key)
        return self._score(use) if use else 0.0

    def _score(self, use: _Use) -> float:
        return float(use.score * 0.5 ** ((self._images - use.at) / self.half_life))

    def _forget(self) -> None:
        """Drop the uses of the least used half of the keys without an entry, so that their number is bounded."""
        without = sorted((k for k in self._uses if k not in self._held and k not in self._pins), key=self._score_of)
        for key in without[: len(without) // 2]:
            del self._uses[key]
