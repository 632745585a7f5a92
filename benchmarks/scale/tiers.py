"""Where one server has each adapter: a hot program, factors in memory, a file on disk, or only the object store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Protocol

from benchmarks.scale.costs import MachineCosts

from lensmount_adapters.runners.end_to_end import END_TO_END_WEIGHT
from lensmount_adapters.runners.hot_cache import HotCache


class Tier(StrEnum):
    hot = "hot"
    memory = "memory"
    file = "file"
    remote = "remote"


class Recent:
    """The most recently used keys, at most `most` of them. A stand-in for the service's AdapterCache and its folder."""

    def __init__(self, most: int, keys: Iterable[int] = ()) -> None:
        """`keys` come from the least recently used one to the most recently used one."""
        self._most = most
        self._keys: dict[int, None] = dict.fromkeys(keys)

    def __contains__(self, key: int) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def emptied(self) -> Recent:
        return Recent(self._most)

    def use(self, key: int) -> int | None:
        """Note a use. Returns the key that had to go, if one had."""
        if key in self._keys:
            del self._keys[key]
            self._keys[key] = None
            return None
        self._keys[key] = None
        if len(self._keys) <= self._most:
            return None
        oldest = next(iter(self._keys))
        del self._keys[oldest]
        return oldest


class HotPlaces:
    """The service's cache of hot programs, with the time that the background thread needs to make each of them.

    An adapter that fills batches on its own also gets an end-to-end program, which counts as in runners/end_to_end.py.
    """

    def __init__(self, costs: MachineCosts, nbytes: int) -> None:
        self._costs = costs
        self._cache: HotCache[None] = HotCache(nbytes)
        self._making: list[tuple[float, object, int]] = []  # when each is ready
        self._free_at = 0.0

    def emptied(self) -> HotPlaces:
        return HotPlaces(self._costs, self._cache.max_bytes)

    def warm(self, shares: Iterable[tuple[int, float]]) -> None:
        """Start with these adapters, the most used one first, and the images of each, weighted as the cache does."""
        for adapter, images in shares:
            self._cache.record_use(adapter, images)
            self._cache.put(adapter, None, self._costs.hot_bytes)

    def __contains__(self, adapter: int) -> bool:
        return adapter in self._cache

    def has_whole(self, adapter: int, images: int) -> bool:
        return (adapter, images > 1) in self._cache

    def used(self, batch: list[tuple[int, int]], now: float) -> None:
        """Note a batch of adapters and their images; make what it justifies."""
        while self._making and self._making[0][0] <= now:
            _, key, nbytes = self._making.pop(0)
            self._cache.put(key, None, nbytes)
        cache = self._cache
        for adapter, images in batch:
            cache.record_use(adapter, images)
            if cache.should_admit(adapter, self._costs.hot_bytes):
                self._make(adapter, self._costs.hot_bytes, now)
        if len(batch) == 1:
            (adapter, images) = batch[0]
            key, nbytes = (adapter, images > 1), self._costs.whole_bytes if images > 1 else self._costs.hot_bytes
            cache.record_use(key, END_TO_END_WEIGHT * images)
            if adapter in cache and cache.should_admit(key, nbytes):
                self._make(key, nbytes, now)

    def _make(self, key: object, nbytes: int, now: float) -> None:
        if all(made != key for _, made, _ in self._making):
            self._free_at = max(self._free_at, now) + self._costs.bind_s
            self._making.append((self._free_at, key, nbytes))


class Places(Protocol):
    """Where the adapters of one server are."""

    def find(self, adapter: int, now: float) -> tuple[Tier, float | None]:
        """Where it is, and when it is in memory; None: it must be loaded."""

    def load_s(self, tier: Tier) -> tuple[float, float]:
        """Seconds to fetch the adapter from the object store, and to admit it."""

    def loading(self, adapter: int, ready_at: float) -> None: ...

    def used(self, batch: list[tuple[int, int]], now: float) -> None: ...

    def is_hot(self, adapter: int) -> bool: ...

    def has_whole(self, adapter: int, images: int) -> bool: ...

    def lose(self) -> None:
        """The server died: nothing is in memory or on its disk."""


class OwnPlaces:
    """The memory and disk of one server. `dropped` is told what leaves memory; None: everything."""

    def __init__(
        self,
        costs: MachineCosts,
        memory: Recent,
        hot: HotPlaces,
        on_disk: Callable[[int], bool],
        dropped: Callable[[int | None], None] = lambda adapter: None,
    ) -> None:
        self._costs = costs
        self._memory = memory
        self._hot = hot
        self._on_disk = on_disk
        self._dropped = dropped
        self._fetched: set[int] = set()
        self._loading: dict[int, tuple[float, Tier]] = {}

    def find(self, adapter: int, now: float) -> tuple[Tier, float | None]:
        if adapter in self._loading:
            ready_at, tier = self._loading[adapter]
            if ready_at > now:
                return tier, ready_at
            del self._loading[adapter]
        if adapter in self._memory:
            self._memory.use(adapter)
            return (Tier.hot if adapter in self._hot else Tier.memory), now
        return (Tier.file if adapter in self._fetched or self._on_disk(adapter) else Tier.remote), None

    def load_s(self, tier: Tier) -> tuple[float, float]:
        return (self._costs.fetch_s if tier is Tier.remote else 0.0), self._costs.admit_s

    def loading(self, adapter: int, ready_at: float) -> None:
        tier = Tier.file if adapter in self._fetched or self._on_disk(adapter) else Tier.remote
        self._loading[adapter] = ready_at, tier
        self._fetched.add(adapter)
        oldest = self._memory.use(adapter)
        if oldest is not None:
            self._dropped(oldest)

    def used(self, batch: list[tuple[int, int]], now: float) -> None:
        self._hot.used(batch, now)

    def is_hot(self, adapter: int) -> bool:
        return adapter in self._hot

    def has_whole(self, adapter: int, images: int) -> bool:
        return self._hot.has_whole(adapter, images)

    def lose(self) -> None:
        self._memory, self._hot = self._memory.emptied(), self._hot.emptied()
        self._fetched, self._loading, self._on_disk = set(), {}, lambda adapter: False
        self._dropped(None)


class PooledPlaces:
    """The memory of the whole fleet as if each server had all of it: the `hot` most requested adapters are hot."""

    def __init__(self, hot: int) -> None:
        self._hot = hot

    def find(self, adapter: int, now: float) -> tuple[Tier, float | None]:
        return (Tier.hot if adapter < self._hot else Tier.memory), now

    def load_s(self, tier: Tier) -> tuple[float, float]:
        raise NotImplementedError("everything is in memory")

    def loading(self, adapter: int, ready_at: float) -> None:
        raise NotImplementedError("everything is in memory")

    def used(self, batch: list[tuple[int, int]], now: float) -> None:
        pass

    def is_hot(self, adapter: int) -> bool:
        return adapter < self._hot

    def has_whole(self, adapter: int, images: int) -> bool:
        return adapter < self._hot

    def lose(self) -> None:
        pass
