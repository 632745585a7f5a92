"""Images of answers are remembered within their time and size, the latest longest, and then they are gone."""

from __future__ import annotations

import pytest

from lensmount_service.pools.answered_images import AnsweredImages

ADAPTERS = frozenset({"sha256:1"})


def test_an_image_is_found_until_its_time_is_over() -> None:
    now = 0.0
    answered = AnsweredImages(1000, 60, clock=lambda: now)
    answered.keep("first", b"image", ADAPTERS)
    now = 30.0
    answered.keep("second", b"other", ADAPTERS)

    now = 59.9
    found = answered.find("first")
    assert found is not None
    assert (found.data, found.adapters) == (b"image", ADAPTERS)
    now = 60.0
    assert (answered.find("first"), answered.nbytes) == (None, 5)
    now = 90.0
    assert (answered.find("second"), answered.nbytes) == (None, 0)


def test_the_oldest_images_go_first_and_one_that_is_too_large_is_not_kept() -> None:
    answered = AnsweredImages(100, 60)
    for number in range(5):
        answered.keep(str(number), b"x" * 30, ADAPTERS)
    answered.keep("large", b"x" * 101, ADAPTERS)

    assert [answered.find(str(number)) is not None for number in range(5)] == [False, False, True, True, True]
    assert answered.find("large") is None
    answered.keep("4", b"x" * 40, ADAPTERS)  # again: its first image is counted no longer
    assert answered.nbytes == 100


@pytest.mark.parametrize(("most", "seconds"), [(0, 0.0), (0, 60.0), (100, 0.0), (100, 60.0)])
def test_without_time_or_room_nothing_is_kept(most: int, seconds: float) -> None:
    answered = AnsweredImages(most, seconds)
    answered.keep("1", b"image", ADAPTERS)

    assert (answered.find("1") is not None) == (most > 0 and seconds > 0)
