"""An image's size and frames are checked by its header alone."""

from __future__ import annotations

import io
import re
import struct
import zlib

import pytest
from PIL import Image

from lensmount_adapters import decode_image
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


PILLOW = 2 * (1024 * 1024 * 1024 // 4 // 3)  # as its documentation states it: 178,956,970


def of_size(kind: str, width: int, height: int) -> bytes:
    """A file of a few pixels whose header states another size."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    data = bytearray(buffer.getvalue())
    if kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
    elif kind == "BMP":
        data[18:26] = struct.pack("<ii", width, height)
    else:
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "BMP"])
@pytest.mark.parametrize("most", [40_000_000, 150_000_000, 500_000_000])
def test_an_image_that_pillow_does_not_open_is_refused_with_the_limit_that_holds(kind: str, most: int) -> None:
    with pytest.raises(ImageTooLarge) as caught:
        decode_image(of_size(kind, 16_000, 15_000), ImageLimits(max_pixels=most))

    message = str(caught.value)
    assert message.startswith(("found an image of 240000000 pixels, ", "found an image of 16000 x 15000, "))
    assert f"at most {min(most, PILLOW)}" in message
    assert ("the limit of Pillow" in message) == (most > PILLOW)
    assert re.search(r"Fix: scale (it|the image) down( before sending)?$", message)


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "PNG"])
def test_raising_the_limit_is_advised_only_where_pillow_follows(kind: str) -> None:
    with pytest.raises(ImageTooLarge, match="or raise max_pixels"):
        decode_image(of_size(kind, 9_000, 9_000))
    with pytest.raises(ImageTooLarge) as refused:
        decode_image(of_size(kind, 16_000, 15_000))
    assert "raise" not in str(refused.value)
    assert decode_image(of_size(kind, 8, 8)).size == (8, 8)
