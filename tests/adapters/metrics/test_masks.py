"""Dice and intersection over union of masks, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lensmount_adapters.metrics.masks import dice, measure_masks


def mask(*rows: str) -> np.ndarray:
    """bool [height, width]; "#" is inside."""
    return np.array([[pixel == "#" for pixel in row] for row in rows])


TRUTH = np.stack([mask("##..", "##.."), mask("....", "...#")])
PREDICTED = np.stack([mask(".##.", ".##."), mask("....", "....")])


def test_dice_is_twice_the_overlap_by_the_sum_of_both() -> None:
    assert dice(TRUTH, PREDICTED).tolist() == [2 * 2 / (4 + 4), 0.0]


def test_two_empty_masks_agree() -> None:
    empty = np.zeros((3, 4, 5), bool)

    assert dice(empty, empty).tolist() == [1.0, 1.0, 1.0]


def test_means_are_over_images_and_labels_and_the_worst_is_one_image() -> None:
    metrics = measure_masks([(TRUTH, TRUTH), (TRUTH, PREDICTED)], ("left", "dot"))

    assert metrics.count == 2
    assert metrics.dice == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert metrics.iou == pytest.approx((1 + 1 + 2 / 6 + 0) / 4)  # 2 pixels of 6 in either mask
    assert metrics.worst == pytest.approx((0.5 + 0) / 2)
    assert metrics.labels == {"left": pytest.approx(0.75), "dot": pytest.approx(0.5)}
