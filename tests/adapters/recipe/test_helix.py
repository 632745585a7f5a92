"""Drawn helices: the slices of both hands are alike, and only their order tells them apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lensmount_adapters.recipe.helix import draw_helix, write_helices


def test_slices_of_both_hands_start_alike_and_then_differ() -> None:
    left, right = (draw_helix(hand, 5) for hand in (False, True))

    assert left.shape == (16, 64, 64)
    assert left.dtype == np.uint8
    assert np.array_equal(left[0], right[0])  # the same positions and noise before anything has moved
    assert not np.array_equal(left[1], right[1])
    assert np.array_equal(left, draw_helix(False, 5))


def test_a_right_hand_moves_right_from_slice_to_slice_and_a_left_hand_left() -> None:
    left, right = (draw_helix(hand, 5).astype(float) for hand in (False, True))

    def move(volume: np.ndarray) -> int:
        """By how many columns the second slice is the first one moved around, where they agree best."""
        apart = {by: np.abs(np.roll(volume[0], by, axis=1) - volume[1]).mean() for by in range(-10, 11)}
        return min(apart, key=lambda by: float(apart[by]))

    assert 3 <= move(right) <= 6  # columns of 64, as the module says
    assert -6 <= move(left) <= -3


def test_a_folder_has_one_file_per_volume_and_no_seed_twice(tmp_path: Path) -> None:
    write_helices(tmp_path, 2, (4, 16, 16))

    files = sorted(tmp_path.rglob("*.npy"))
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        "left/000.npy",
        "left/001.npy",
        "right/000.npy",
        "right/001.npy",
    ]
    volumes = [np.load(file) for file in files]
    assert np.array_equal(volumes[3], draw_helix(True, 3, (4, 16, 16)))
    assert len({volume.tobytes() for volume in volumes}) == 4
