from __future__ import annotations

import pytest

from lensmount_adapters.draft.choice import MOST_CLASSES, Known, chosen, most_of_a_class
from lensmount_adapters.errors import DatasetError


def images(label: int, count: int, prefix: str = "") -> list[Known]:
    names = [f"{prefix}{label}-{number}" for number in range(count)]
    return [Known(name, label, name, f"digest {name}") for name in names]


def test_all_images_are_used_as_long_as_they_are_few() -> None:
    known = images(0, 5) + images(1, 7)
    assert chosen(known, ("a", "b")) == known


def test_an_image_stays_chosen_while_others_are_added() -> None:
    before = chosen(images(0, 400) + images(1, 5), ("a", "b"))
    after = chosen(images(0, 400) + images(0, 40, "new ") + images(1, 5), ("a", "b"))
    assert len(before) == len(after) == 205
    assert len(set(before) & set(after)) > 170


def test_copies_count_once() -> None:
    known = images(0, 4) * 3 + images(1, 9)
    with pytest.raises(DatasetError, match=r"found 4 of 'a', expected at least 5 different images") as caught:
        chosen(known, ("a", "b"))
    assert caught.value.code == "draft_needs_images"


def test_the_images_of_all_classes_together_are_at_most_a_thousand() -> None:
    assert [most_of_a_class(classes) for classes in (2, 5, 10, MOST_CLASSES)] == [200, 200, 100, 5]


def test_more_classes_than_that_are_refused() -> None:
    with pytest.raises(DatasetError, match=f"found {MOST_CLASSES + 1} classes, expected at most {MOST_CLASSES}"):
        chosen([], [str(number) for number in range(MOST_CLASSES + 1)])
