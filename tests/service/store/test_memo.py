from __future__ import annotations

import threading

import pytest

from lensmount_service.store.memo import StampedCache


class Place:
    """What is asked: `value` may change, and `stamp` with it."""

    def __init__(self):
        self.stamp: object | None = 0
        self.value = "old"
        self.asked = 0

    def find(self, key):
        self.asked += 1
        return f"{key} is {self.value}"

    def change(self, value):
        self.value = value
        self.stamp += 1


@pytest.fixture
def place():
    return Place()


@pytest.fixture
def recall(place):
    return StampedCache(lambda: place.stamp, most=3)


def test_what_was_found_is_not_asked_for_again_while_nothing_changes(recall, place):
    assert recall.get("a") is None
    assert [recall.ask("a", place.find) for _ in range(3)] == ["a is old"] * 3
    assert recall.get("a") == "a is old"
    assert place.asked == 1


def test_after_a_change_it_is_asked_for_again(recall, place):
    recall.ask("a", place.find)
    recall.ask("b", place.find)
    place.change("new")

    assert recall.get("a") is None
    assert recall.ask("a", place.find) == "a is new"
    assert recall.get("b") is None


def test_a_change_while_it_is_asked_for_is_not_missed(recall, place):
    def find(key):
        found = place.find(key)
        place.change("new")
        return found

    assert recall.ask("a", find) == "a is old"
    assert recall.get("a") is None
    assert recall.ask("a", place.find) == "a is new"


def test_where_no_state_can_be_told_everything_is_asked_for(recall, place):
    recall.ask("a", place.find)
    place.stamp = None

    assert recall.get("a") is None
    assert [recall.ask("a", place.find) for _ in range(2)] == ["a is old"] * 2
    assert place.asked == 3


def test_what_was_never_found_is_not_known_and_costs_no_look_at_the_state():
    def refuse():
        raise AssertionError("found a look at the state, expected none")

    assert StampedCache(refuse).get("a") is None


def test_an_error_is_not_kept(recall, place):
    with pytest.raises(ZeroDivisionError):
        recall.ask("a", lambda _: 1 // 0)
    assert recall.ask("a", place.find) == "a is old"


def test_no_more_answers_are_kept_than_allowed(recall, place):
    for key in "abcdefg":
        recall.ask(key, place.find)

    assert sum(recall.get(key) is not None for key in "abcdefg") <= 3
    assert recall.get("g") == "g is old"


def test_no_thread_is_told_what_was_over_before_it_asked():
    """One thread counts up, eight ask: each answer lies between the counts before and after the question."""
    now = 0
    recall: StampedCache[int, int] = StampedCache(lambda: now)
    wrong: list[tuple[int, int, int]] = []
    done = threading.Event()

    def ask(key: int) -> None:
        while not done.is_set():
            before = now
            found = recall.get(key) or recall.ask(key, lambda _: now)
            if not before <= found <= now:
                wrong.append((before, found, now))

    threads = [threading.Thread(target=ask, args=(number % 3,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(50_000):
        now += 1
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
