"""Which adapters have merged weights of their own: a budget in bytes, pins, and no change of place without a reason.

A plain least-recently-used list falls off a cliff as soon as the working set is larger than its room: every use evicts
what is needed next (the 44-fold loss reported for 25 slots). Here a newcomer takes a place only from adapters that were
used clearly less of late, so under a uniform load the places stay taken and the rest is served from its factors.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Use:
    """Images asked for, halved every `half_life` images that anyone asks for."""

    score: float = 0.0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Held(Generic[T]):
    """What has a place, and the bytes that giving it up frees."""

    value: T
    nbytes: int


@dataclass(slots=True)
class HotCache(Generic[T]):
    """`places.get(key)`; `places.wants(key, nbytes)` after it was used; `places.put(key, value, nbytes)` when made.

    `max_bytes` bounds all together; pinned ones are never given up. `threshold`: images of late before a place is
    worth having; `margin`: how many times the use of the one it replaces. Safe from any thread.
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

    def used(self, key: Hashable, images: float) -> None:
        with self._lock:
            self._images += images
            use = self._uses.setdefault(key, _Use(at=self._images))
            use.score = self._score(use) + images
            use.at = self._images
            if len(self._uses) > 4 * (1024 + len(self._held)):
                self._forget()

    def wants(self, key: Hashable, nbytes: int) -> bool:
        """Whether a place is worth making for it now: it fits beside the rest, or in place of what is used less."""
        with self._lock:
            if key in self._held:
                return False
            if key not in self._pins and self._score_of(key) < self.threshold:
                return False
            return self._victims(key, nbytes) is not None

    def fits(self, nbytes: int) -> bool:
        """Whether there is room without giving anything up."""
        with self._lock:
            return self._bytes + nbytes <= self.max_bytes

    def put(self, key: Hashable, value: T, nbytes: int) -> bool:
        """Give it a place; False where it would have to push out what is used more, or has one already."""
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
        with self._lock:
            held = self._held.pop(key, None)
            self._bytes -= held.nbytes if held else 0
            self._uses.pop(key, None)
            self._pins.discard(key)

    def pin(self, key: Hashable, pinned: bool = True) -> None:
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

    def _victims(self, key: Hashable, nbytes: int) -> list[Hashable] | None:
        """The least used that must go, none where it fits; None where they may not go for this one."""
        if nbytes > self.max_bytes:
            return None
        victims: list[Hashable] = []
        free = self.max_bytes - self._bytes
        own = self._score_of(key)
        for candidate in sorted((k for k in self._held if k not in self._pins), key=self._score_of):
            if free >= nbytes:
                break
            if key not in self._pins and self.margin * self._score_of(candidate) > own:
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
        """Drop the least used half of what has no place, so that the list of uses is bounded."""
        without = sorted((k for k in self._uses if k not in self._held and k not in self._pins), key=self._score_of)
        for key in without[: len(without) // 2]:
            del self._uses[key]
