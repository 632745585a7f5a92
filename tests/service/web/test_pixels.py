from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from lensmount_service.web.pixels import stated_pixels


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF"])
def test_the_header_is_enough(form: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (70, 110, 3), dtype=np.uint8)
    try:
        Image.fromarray(pixels).save(buffer := io.BytesIO(), form)
    except (KeyError, OSError):
        pytest.skip(f"Pillow writes no {form} here")
    data = buffer.getvalue()

    assert stated_pixels(data) == 70 * 110
    if form == "PNG":
        assert stated_pixels(data[: len(data) // 2]) == 70 * 110


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF0000WEBP", b"II*\0" + b"\xff" * 40]
)
def test_for_anything_else_the_bytes_count(data: bytes) -> None:
    assert stated_pixels(data) == len(data)
