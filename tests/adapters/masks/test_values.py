"""The values of a mask become one map per label by stated rules."""

from __future__ import annotations

import numpy as np
import pytest

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.masks.values import objects_of, single_channel


@pytest.mark.parametrize(
    ("values", "expected", "divided"),
    [
        ([0, 1, 2, 3], [0, 1, 1, 1], False),
        ([0, 3, 65535, 7], [0, 1, 1, 1], False),
        ([0.0, 1.0, 0.0, 2.0], [0, 1, 0, 1], False),
        ([0.49, 0.5, 0.0, 1.0], [0, 1, 0, 1], True),
        ([*range(1, 10), *[255] * 9], [*[0] * 9, *[1] * 9], True),
        ([*range(1, 8), *[255] * 8], [*[0] * 7, *[1] * 8], True),
        ([*range(100, 1000, 100), *[65535] * 9], [*[0] * 9, *[1] * 9], True),
        ([0, 127, 128, 255, 255, 255, 255], [0, 0, 1, 1, 1, 1, 1], True),
        ([0, 50, 100, 200], [0, 1, 1, 1], False),
    ],
    ids=["whole", "ids", "whole floats", "floats", "soft", "few values", "soft, 16 bits", "few greys", "points"],
)
def test_one_label(values: list[float], expected: list[int], divided: bool) -> None:
    objects, thresholded = objects_of(np.array([values]), 1, "a TIFF", lossy=False)

    assert objects.astype(int).tolist() == [[expected]]
    assert thresholded == divided


def test_areas_of_one_value_are_instances_and_slopes_are_not() -> None:
    areas = np.repeat(np.repeat(np.arange(0, 256, 15).reshape(3, 6), 2, 0), 2, 1)  # 18 values, each in 2 x 2 pixels
    slope = np.arange(0, 256, 2).reshape(8, 16)

    assert (objects_of(areas, 1, "a PNG", lossy=False)[0] == (areas > 0)).all()
    with pytest.raises(DatasetError, match=r"95 pixels .* form no areas.*Fix: save the object as 255 .* with 16 bits"):
        objects_of(slope, 1, "a PNG", lossy=False)
    assert (objects_of(slope, 1, "a PNG", lossy=False, indexed=True)[0] == (slope > 0)).all()
    thresholded = np.where(slope >= 128, 255, 0)  # one advice, and the other
    assert (objects_of(thresholded, 1, "a PNG", lossy=False)[0] == (slope >= 128)).all()
    assert (objects_of(slope * 3, 1, "a PNG", lossy=False)[0] == (slope > 0)).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 0, 0], [0, 0, 0]), ([0, 255, 255], [0, 1, 1]), ([3, 31, 240], [0, 0, 1])],
    ids=["black", "exact", "ringing"],
)
def test_one_label_of_a_format_that_changes_values(values: list[int], expected: list[int]) -> None:
    objects, thresholded = objects_of(np.array([values], np.uint8), 1, "a JPEG", lossy=True)

    assert objects.astype(int).tolist() == [[expected]]
    assert thresholded == any(value not in (0, 255) for value in values)


@pytest.mark.parametrize("values", [[0, 1], [0, 200], [100, 255]], ids=["too dark", "no white", "grey between"])
def test_other_values_of_such_a_format_are_refused(values: list[int]) -> None:
    with pytest.raises(DatasetError, match="Fix: export it as PNG"):
        objects_of(np.array([values], np.uint8), 1, "a JPEG", lossy=True)


def test_equal_channels_are_one_and_others_are_refused() -> None:
    grey = np.array([[5, 0], [1, 2]], np.uint8)
    clear = np.zeros_like(grey)

    assert single_channel(grey, "a PNG", lossy=False) is grey
    for channels in ([grey] * 3, [grey, clear + 255], [grey, grey, grey, clear + 255]):
        assert (single_channel(np.stack(channels, -1), "a PNG", lossy=False) == grey).all()
    for channels in ([grey, grey, clear], [grey, clear], [grey] * 5):
        with pytest.raises(DatasetError, match="Fix: "):
            single_channel(np.stack(channels, -1), "a PNG", lossy=False)
