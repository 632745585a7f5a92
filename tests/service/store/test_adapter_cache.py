from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import cast

import pytest

from lensmount_adapters import Adapter
from lensmount_service.store.adapter_cache import AdapterCache


class Stub:
    """A stand-in for an adapter of ten bytes."""

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def nbytes(self) -> int:
        return 10


def stub(digest: str) -> Adapter:
    return cast("Adapter", Stub(digest))


def test_the_least_recently_used_adapter_is_evicted_first() -> None:
    loads: list[str] = []
    evicted: list[str] = []
    cache = AdapterCache(lambda d: (loads.append(d), stub(d))[1], 25, lambda a: evicted.append(a.digest))

    for digest in ("a", "b", "a", "c", "a", "b"):
        assert cache.get(digest).digest == digest
    assert loads == ["a", "b", "c", "b"]
    assert evicted == ["b", "c"]
    assert cache.resident() == {"a": 10, "b": 10}


def test_concurrent_callers_share_one_load() -> None:
    started, go = threading.Event(), threading.Event()
    loads: list[str] = []

    def load(digest: str) -> Adapter:
        loads.append(digest)
        started.set()
        go.wait(5)
        return stub(digest)

    cache = AdapterCache(load, 100)
    found: list[Adapter] = []
    threads = [threading.Thread(target=lambda: found.append(cache.get("a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    started.wait(5)
    go.set()
    for thread in threads:
        thread.join()
    assert loads == ["a"]
    assert len({id(adapter) for adapter in found}) == 1


def test_a_failed_load_is_not_cached() -> None:
    results: Iterator[Adapter | Exception] = iter([ValueError("torn"), stub("a")])

    def load(_: str) -> Adapter:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    cache = AdapterCache(load, 100)
    with pytest.raises(ValueError, match="torn"):
        cache.get("a")
    assert cache.get("a").digest == "a"


def test_finding_loads_nothing_and_counts_as_a_use() -> None:
    cache = AdapterCache(stub, 25)
    assert cache.find("a") is None
    cache.get("a")
    cache.get("b")
    found = cache.find("a")
    assert found is not None
    assert found.digest == "a"
    cache.get("c")

    assert cache.resident() == {"a": 10, "c": 10}


def test_a_pinned_adapter_is_not_evicted() -> None:
    evicted: list[str] = []
    cache = AdapterCache(stub, 0, lambda adapter: evicted.append(adapter.digest))
    cache.get("a")
    cache.pin("a", True)

    cache.get("b")
    cache.get("c")
    assert evicted == ["b"]
    cache.pin("a", False)
    cache.get("d")
    assert evicted == ["b", "a", "c"]
