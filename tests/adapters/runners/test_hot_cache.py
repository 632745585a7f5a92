"""Which entries are kept, and that a load larger than the cache does not make it evict and reload all the time."""

from __future__ import annotations

import random
import threading

import pytest

from lensmount_adapters.runners.hot_cache import HotCache


def use(cache: HotCache[str], key: str, images: int = 1, nbytes: int = 10) -> bool:
    """One request: returns whether the adapter was hot; makes it hot afterwards if the cache admits it."""
    hot = cache.get(key) is not None
    cache.record_use(key, images)
    if cache.should_admit(key, nbytes):
        cache.put(key, key, nbytes)
    return hot


def test_an_adapter_becomes_hot_after_a_few_images_if_there_is_room() -> None:
    cache: HotCache[str] = HotCache(max_bytes=20)

    assert [use(cache, "a") for _ in range(4)] == [False, False, True, True]
    assert "a" in cache
    assert cache.nbytes == 10


def test_nothing_is_kept_without_room() -> None:
    cache: HotCache[str] = HotCache(max_bytes=0)

    assert not any(use(cache, "a", images=16) for _ in range(10))
    assert len(cache) == 0


def test_the_budget_is_never_exceeded() -> None:
    cache: HotCache[str] = HotCache(max_bytes=35)
    draw = random.Random(0)

    for _ in range(2000):
        use(cache, str(draw.randrange(20)), nbytes=draw.choice((5, 10, 15)))
        assert cache.nbytes <= 35


def test_under_a_uniform_load_of_four_times_the_room_the_entries_stay() -> None:
    cache: HotCache[str] = HotCache(max_bytes=160)  # room for 16
    draw = random.Random(1)
    for _ in range(2000):
        use(cache, str(draw.randrange(64)))

    changes, hits = 0, 0
    for _ in range(2000):
        before = {key for key in map(str, range(64)) if key in cache}
        hits += use(cache, str(draw.randrange(64)))
        changes += before != {key for key in map(str, range(64)) if key in cache}

    assert hits > 0.2 * 2000  # a quarter of the adapters is hot; a least-recently-used list would have a quarter too,
    assert changes < 0.02 * 2000  # but with three of four requests making a program and throwing one away


def test_requests_that_go_round_all_adapters_in_turn_keep_a_quarter_of_the_hits() -> None:
    """The order in which a least-recently-used list never contains what is requested next."""
    cache: HotCache[str] = HotCache(max_bytes=160)

    hits = sum(use(cache, str(number % 64)) for number in range(6400))

    assert hits > 0.2 * 6400


def test_a_much_used_adapter_evicts_one_that_is_hardly_used() -> None:
    cache: HotCache[str] = HotCache(max_bytes=20)
    for key in ("a", "b"):
        use(cache, key, images=4)

    for _ in range(9):
        use(cache, "c")

    assert "c" in cache
    assert len(cache) == 2


def test_uses_long_ago_count_less() -> None:
    cache: HotCache[str] = HotCache(max_bytes=10, half_life=100)
    use(cache, "yesterday", images=1000)

    for _ in range(600):
        use(cache, "today")

    assert "today" in cache


def test_a_pinned_adapter_stays() -> None:
    cache: HotCache[str] = HotCache(max_bytes=10)
    cache.pin("a")
    assert cache.should_admit("a", 10)  # without having been used
    cache.put("a", "a", 10)

    for _ in range(100):
        use(cache, "b")

    assert "a" in cache
    assert "b" not in cache


def test_a_dropped_entry_frees_its_room_and_its_uses_are_forgotten() -> None:
    cache: HotCache[str] = HotCache(max_bytes=10)
    use(cache, "a", images=5)
    cache.drop("a")

    assert cache.nbytes == 0
    assert cache.get("a") is None
    assert not cache.should_admit("a", 10)


def test_the_memory_of_uses_is_bounded() -> None:
    cache: HotCache[str] = HotCache(max_bytes=10)

    for number in range(50_000):
        cache.record_use(number, 1)

    assert cache.tracked <= 4096


@pytest.mark.parametrize("threads", [8])
def test_many_threads_at_once_keep_the_count_right(threads: int) -> None:
    cache: HotCache[str] = HotCache(max_bytes=100)

    def work(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(500):
            key = str(draw.randrange(30))
            use(cache, key)
            if draw.random() < 0.1:
                cache.drop(key)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert cache.nbytes == 10 * len(cache)


def test_an_entry_for_which_images_are_expected_takes_the_place_of_one_that_is_used_less() -> None:
    cache: HotCache[str] = HotCache(max_bytes=20)
    for key, images in (("busy", 1000), ("idle", 20)):
        use(cache, key, images)
        assert cache.put(key, key, 10) or key in cache
    assert not cache.should_admit("new", 10)
    cache.expect("new", like="busy", share=0.01)  # 10 images: less than twice those of the idle one
    assert not cache.should_admit("new", 10)
    cache.expect("new", like="busy", share=0.1)
    assert cache.should_admit("new", 10)
    assert cache.put("new", "new", 10)
    assert "idle" not in cache


def test_an_entry_for_which_no_images_are_expected_gives_way_first() -> None:
    cache: HotCache[str] = HotCache(max_bytes=20)
    for key, images in (("lost", 1000), ("idle", 20), ("lost", 1), ("idle", 1)):
        use(cache, key, images)
    cache.retire("lost")
    assert "lost" in cache  # until somebody needs its room
    use(cache, "new", images=2)
    assert ("lost" in cache, "idle" in cache, "new" in cache) == (False, True, True)
    cache.retire("never seen")


def test_shedding_drops_all_entries_but_pinned_ones() -> None:
    cache: HotCache[str] = HotCache(max_bytes=100)
    for key in "abc":
        cache.put(key, key, 10)
    cache.pin("b")

    assert cache.shed() == 20
    assert [key in cache for key in "abc"] == [False, True, False]
    assert cache.nbytes == 10
    assert cache.shed() == 0
