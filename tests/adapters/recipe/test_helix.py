"""Drawn helices: the slices of both hands are alike, and only their order tells them apart."""

from __future__ import annotations

import numpy as np

from lensmount_adapters.recipe.helix import draw_helix


def test_slices_of_both_hands_start_alike_and_then_differ() -> None:
    left, right = (draw_helix(hand, 5) for hand in (False, True))

    assert left.shape == (16, 64, 64)
    assert left.dtype == np.uint8
    assert np.array_equal(left[0], right[0])  # the same positions and noise before anything has moved
    assert not np.array_equal(left[1], right[1])
    assert np.array_equal(left, draw_helix(False, 5))
