from __future__ import annotations

import threading

import pytest

from lensmount_service.errors import Unavailable
from lensmount_service.store.memo import StampedCache


class Source:
    """Where values come from. `change` replaces the value and increments the stamp."""

    def __init__(self) -> None:
        self.stamp: int | None = 0
        self.value = "old"
        self.loads = 0

    def load(self, key: str) -> str:
        self.loads += 1
        return f"{key} is {self.value}"

    def change(self, value: str) -> None:
        self.value = value
        self.stamp = (self.stamp or 0) + 1


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def cache(source: Source) -> StampedCache[str, str]:
    return StampedCache(lambda: source.stamp, max_entries=3)


def test_a_value_is_loaded_once_while_nothing_changes(cache: StampedCache[str, str], source: Source) -> None:
    assert cache.get("a") is None
    assert [cache.get_or_load("a", source.load) for _ in range(3)] == ["a is old"] * 3
    assert cache.get("a") == "a is old"
    assert source.loads == 1


def test_while_the_source_cannot_be_read_the_last_value_is_used(cache: StampedCache[str, str], source: Source) -> None:
    def fail(key: str) -> str:
        raise Unavailable(f"no {key}")

    cache.get_or_load("a", source.load)
    source.change("new")
    assert cache.get("a") is None
    assert cache.get_or_load("a", fail) == "a is old"
    with pytest.raises(Unavailable):
        cache.get_or_load("b", fail)
    assert cache.get_or_load("a", source.load) == "a is new"


def test_after_a_change_it_is_loaded_again(cache: StampedCache[str, str], source: Source) -> None:
    cache.get_or_load("a", source.load)
    cache.get_or_load("b", source.load)
    source.change("new")

    assert cache.get("a") is None
    assert cache.get_or_load("a", source.load) == "a is new"
    assert cache.get("b") is None


def test_a_change_during_a_load_is_not_missed(cache: StampedCache[str, str], source: Source) -> None:
    def load(key: str) -> str:
        value = source.load(key)
        source.change("new")
        return value

    assert cache.get_or_load("a", load) == "a is old"
    assert cache.get("a") is None
    assert cache.get_or_load("a", source.load) == "a is new"


def test_with_an_unknown_state_every_value_is_loaded(cache: StampedCache[str, str], source: Source) -> None:
    cache.get_or_load("a", source.load)
    source.stamp = None

    assert cache.get("a") is None
    assert [cache.get_or_load("a", source.load) for _ in range(2)] == ["a is old"] * 2
    assert source.loads == 3


def test_a_missing_key_is_answered_without_reading_the_state() -> None:
    def refuse() -> None:
        raise AssertionError("the state was read, expected no read")

    assert StampedCache[str, str](refuse).get("a") is None


def test_an_error_is_not_cached(cache: StampedCache[str, str], source: Source) -> None:
    with pytest.raises(ZeroDivisionError):
        cache.get_or_load("a", lambda _: str(1 // 0))
    assert cache.get_or_load("a", source.load) == "a is old"


def test_the_cache_stays_within_its_bound(cache: StampedCache[str, str], source: Source) -> None:
    for key in "abcdefg":
        cache.get_or_load(key, source.load)

    assert sum(cache.get(key) is not None for key in "abcdefg") <= 3
    assert cache.get("g") == "g is old"


def test_no_thread_reads_a_value_that_was_outdated_before_it_asked() -> None:
    """One thread counts up and eight read: each value lies between the counts before and after the read."""
    now = 0
    cache: StampedCache[int, int] = StampedCache(lambda: now)
    wrong: list[tuple[int, int, int]] = []
    done = threading.Event()

    def read(key: int) -> None:
        while not done.is_set():
            before = now
            value = cache.get(key) or cache.get_or_load(key, lambda _: now)
            if not before <= value <= now:
                wrong.append((before, value, now))

    threads = [threading.Thread(target=read, args=(number % 3,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(50_000):
        now += 1
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
