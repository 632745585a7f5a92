"""Samples of every depth become 8 bits by one rule, and alpha is blended over white."""

from __future__ import annotations

import numpy as np
import pytest

from lensmount_adapters.errors import ImageInvalid
from lensmount_adapters.inputs.pixels import image_of, to_8_bits


@pytest.mark.parametrize("bits", range(1, 17))
def test_every_value_of_every_depth_is_scaled_and_rounded(bits: int) -> None:
    values: np.ndarray = np.arange(1 << bits).astype(np.uint8 if bits <= 8 else np.uint16)
    assert np.array_equal(to_8_bits(values, bits), np.rint(values * 255.0 / ((1 << bits) - 1)))


def test_12_bits_are_divided_by_4095_and_16_bits_by_65535() -> None:
    values = np.array([0, 8, 9, 2048, 4095], np.uint16)
    assert to_8_bits(values, 12).tolist() == [0, 0, 1, 128, 255]
    assert to_8_bits(values, 16).tolist() == [0, 0, 0, 8, 16]


@pytest.mark.parametrize(("alpha", "grey"), [(255, 10), (128, 132), (1, 254)])
def test_grey_with_alpha_is_blended_over_white(alpha: int, grey: int) -> None:
    pixel = image_of(np.array([[[10, alpha]]], np.uint8)).getpixel((0, 0))
    assert pixel == (grey, grey, grey)


@pytest.mark.parametrize("channels", [2, 4])
def test_an_image_without_any_opacity_is_refused(channels: int) -> None:
    with pytest.raises(ImageInvalid, match="transparent everywhere"):
        image_of(np.zeros((3, 4, channels), np.uint8))
