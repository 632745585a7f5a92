from __future__ import annotations

import random
from collections import Counter

import pytest

from lensmount_service.engine.room import Room
from lensmount_service.errors import BodyTooLarge


def flood(room: Room, digest: str, caller: str) -> int:
    """Enter one image after the other until there is no room; how many entered."""
    entered = 0
    while not room.missing({digest: 1}, caller):
        room.enter(digest, caller)
        entered += 1
    return entered


def test_one_adapter_of_one_caller_fills_the_queue_and_no_reserve() -> None:
    room = Room(64)

    assert flood(room, "loud", "a") == 64
    assert room.missing({"loud": 1}, "a")


def test_a_quiet_adapter_finds_room_however_many_images_of_another_wait() -> None:
    room = Room(64)
    flood(room, "loud", "a")

    assert not room.missing({"quiet": 4}, "a")  # a share is a sixteenth of the queue
    assert room.missing({"quiet": 5}, "a")
    assert room.missing({"quiet": 1, "loud": 1}, "a")


def test_a_quiet_caller_finds_room_even_for_the_adapter_that_another_floods() -> None:
    room = Room(64)
    flood(room, "loud", "a")

    assert not room.missing({"loud": 4}, "b")
    assert room.missing({"loud": 5}, "b")


@pytest.mark.parametrize("most", [1, 2, 16, 256])
def test_no_caller_alone_can_keep_out_another_whatever_adapters_it_asks_for(most: int) -> None:
    draw = random.Random(most)
    room = Room(most)
    for number in range(50 * most):
        digest = f"adapter {draw.choice([0, number])}"
        if not room.missing({digest: 1}, "loud"):
            room.enter(digest, "loud")

    assert room.taken <= 2 * most + 2
    assert not room.missing({"adapter 0": 1}, "quiet")
    assert not room.missing({"another": 1}, "quiet")


def test_what_leaves_makes_room_and_nothing_is_remembered_of_it() -> None:
    draw, room, inside = random.Random(0), Room(8), Counter[tuple[str, str]]()
    for _ in range(2000):
        key = draw.choice("abc"), draw.choice("xy")
        if draw.random() < 0.5 and inside[key]:
            room.leave(*key)
            inside[key] -= 1
        elif not room.missing({key[0]: 1}, key[1]):
            room.enter(*key)
            inside[key] += 1
        assert room.taken == inside.total()
    for key, count in inside.items():
        for _ in range(count):
            room.leave(*key)

    assert room.taken == 0
    assert flood(room, "a", "x") == 8


def test_what_can_never_fit_is_refused_for_good() -> None:
    room = Room(256)
    room.require_fit(256)
    with pytest.raises(BodyTooLarge, match=r"found 1024 results .* at most 256\. Fix: send fewer images") as caught:
        room.require_fit(64 * 16)
    assert caught.value.code == "batch_too_large"
