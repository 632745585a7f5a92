"""Warnings about parts of few images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scipy import stats

from lensmount_adapters.report.small_parts import images_for, small_part_warnings

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawJudged


def test_a_small_part_is_named_with_the_width_of_the_interval_and_what_would_help(draw_judged: DrawJudged) -> None:
    metrics = draw_judged(["oak", "elm"], images=30, wrong=3).metrics
    low, high = stats.binomtest(27, 30).proportion_ci(method="wilson")

    overall, classes = small_part_warnings("test", metrics)

    assert (
        f"The test part has 30 images. With so few, the accuracy on new images may be anywhere from {low:.3f} to"
        in overall
    )
    assert f"{high:.3f}: the interval is {100 * (high - low):.0f} percentage points wide." in overall
    assert classes.endswith("oak (15), elm (15).")


def test_a_large_part_needs_no_warning(draw_judged: DrawJudged) -> None:
    assert small_part_warnings("test", draw_judged(["oak", "elm"], images=400, wrong=10).metrics) == []


def test_many_small_classes_are_counted_not_listed(draw_judged: DrawJudged) -> None:
    labels = [f"species {number}" for number in range(200)]

    (classes,) = small_part_warnings("test", draw_judged(labels, images=2000, wrong=10).metrics)

    assert classes.endswith("species 9 (10) and 190 more.")


@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.97, 1.0])
def test_the_number_of_images_gives_the_width(accuracy: float) -> None:
    count = images_for(accuracy, 0.1)

    low, high = stats.binomtest(round(accuracy * count), count).proportion_ci(method="wilson")
    assert 0.085 < high - low < 0.101
