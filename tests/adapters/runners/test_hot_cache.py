"""Who has a hot place, and that a load larger than the room does not make the places change hands."""

from __future__ import annotations

import random
import threading

import pytest

from lensmount_adapters.runners.hot_cache import HotCache


def use(places: HotCache[str], key: str, images: int = 1, nbytes: int = 10) -> bool:
    """One request: True where the adapter was hot; made hot afterwards where it is worth it."""
    hot = places.get(key) is not None
    places.used(key, images)
    if places.wants(key, nbytes):
        places.put(key, key, nbytes)
    return hot


def test_an_adapter_becomes_hot_after_a_few_images_where_there_is_room() -> None:
    places: HotCache[str] = HotCache(max_bytes=20)

    assert [use(places, "a") for _ in range(4)] == [False, False, True, True]
    assert "a" in places
    assert places.nbytes == 10


def test_nothing_is_kept_without_room() -> None:
    places: HotCache[str] = HotCache(max_bytes=0)

    assert not any(use(places, "a", images=16) for _ in range(10))
    assert len(places) == 0


def test_the_budget_is_never_exceeded() -> None:
    places: HotCache[str] = HotCache(max_bytes=35)
    draw = random.Random(0)

    for _ in range(2000):
        use(places, str(draw.randrange(20)), nbytes=draw.choice((5, 10, 15)))
        assert places.nbytes <= 35


def test_under_a_uniform_load_four_times_the_room_the_places_stay_taken() -> None:
    places: HotCache[str] = HotCache(max_bytes=160)  # 16 places
    draw = random.Random(1)
    for _ in range(2000):
        use(places, str(draw.randrange(64)))

    changes, hits = 0, 0
    for _ in range(2000):
        before = {key for key in map(str, range(64)) if key in places}
        hits += use(places, str(draw.randrange(64)))
        changes += before != {key for key in map(str, range(64)) if key in places}

    assert hits > 0.2 * 2000  # a quarter of the adapters is hot; a least-recently-used list would have a quarter too,
    assert changes < 0.02 * 2000  # but with three of four requests making a program and throwing one away


def test_one_round_after_the_other_through_all_adapters_keeps_a_quarter_of_the_hits() -> None:
    """The order in which a least-recently-used list never has what is asked for next."""
    places: HotCache[str] = HotCache(max_bytes=160)

    hits = sum(use(places, str(number % 64)) for number in range(6400))

    assert hits > 0.2 * 6400


def test_a_favourite_pushes_out_what_is_hardly_used() -> None:
    places: HotCache[str] = HotCache(max_bytes=20)
    for key in ("a", "b"):
        use(places, key, images=4)

    for _ in range(9):
        use(places, "c")

    assert "c" in places
    assert len(places) == 2


def test_old_fame_fades() -> None:
    places: HotCache[str] = HotCache(max_bytes=10, half_life=100)
    use(places, "yesterday", images=1000)

    for _ in range(600):
        use(places, "today")

    assert "today" in places


def test_a_pinned_adapter_stays() -> None:
    places: HotCache[str] = HotCache(max_bytes=10)
    places.pin("a")
    assert places.wants("a", 10)  # without having been used
    places.put("a", "a", 10)

    for _ in range(100):
        use(places, "b")

    assert "a" in places
    assert "b" not in places


def test_what_is_dropped_gives_its_room_back_and_is_forgotten() -> None:
    places: HotCache[str] = HotCache(max_bytes=10)
    use(places, "a", images=5)
    places.drop("a")

    assert places.nbytes == 0
    assert places.get("a") is None
    assert not places.wants("a", 10)


def test_the_memory_of_uses_is_bounded() -> None:
    places: HotCache[str] = HotCache(max_bytes=10)

    for number in range(50_000):
        places.used(number, 1)

    assert len(places._uses) <= 4096


@pytest.mark.parametrize("threads", [8])
def test_many_threads_at_once_keep_the_count_right(threads: int) -> None:
    places: HotCache[str] = HotCache(max_bytes=100)

    def work(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(500):
            key = str(draw.randrange(30))
            use(places, key)
            if draw.random() < 0.1:
                places.drop(key)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert places.nbytes == 10 * len(places)
