"""An image's size and frames are checked by its header alone."""

from __future__ import annotations

import pytest

from lensmount_adapters.errors import ImageInvalid, ImageTooLarge
from lensmount_adapters.inputs.limits import ImageLimits, check_frames


@pytest.mark.parametrize("size", [(8, 0), (0, 8), (-1, 8)])
def test_an_image_without_pixels_is_invalid(size: tuple[int, int]) -> None:
    with pytest.raises(ImageInvalid, match="at least 1 x 1"):
        ImageLimits().check_size(*size)


def test_pixels_and_sides_have_limits() -> None:
    limits = ImageLimits(max_pixels=100, max_side=50)
    limits.check_size(50, 2)
    for size in ((51, 1), (11, 10)):
        with pytest.raises(ImageTooLarge, match="scale it down"):
            limits.check_size(*size)


def test_a_side_has_no_setting_so_none_is_named() -> None:
    limits = ImageLimits(max_pixels=100, max_side=50)
    with pytest.raises(ImageTooLarge, match="raise max_pixels"):
        limits.check_size(11, 10)
    with pytest.raises(ImageTooLarge, match=r"Fix: scale it down before sending$"):
        limits.check_size(51, 1)


def test_one_frame_passes_and_two_are_named() -> None:
    check_frames(1, "a film of 1 frame", "save one frame")
    with pytest.raises(ImageTooLarge, match=r"found a film of 2 frames, expected one frame\. Fix: save one"):
        check_frames(2, "a film of 2 frames", "save one frame")
