"""HEIC photos are read as libheif shows them, and without the extra the message says what to install."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters import ImageLimits, decode_image
from lensmount_adapters.errors import ImageError, ImageTooLarge, ImageUnsupported

pillow_heif: Any = pytest.importorskip("pillow_heif", reason="the extra 'heif' is not installed")


def photo(mode: str = "RGB", **options: Any) -> bytes:
    coarse = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((64, 48)).convert(mode)
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=95, **options)
    return buffer.getvalue()


def test_a_photo_is_read_as_libheif_shows_it() -> None:
    data = photo()
    expected = np.asarray(pillow_heif.open_heif(data).to_pillow())
    assert np.array_equal(np.asarray(decode_image(data)), expected)


@pytest.mark.parametrize("mode", ["RGB;10", "RGB;12", "RGBA;10", "L;10", "L;12"])
def test_10_and_12_bits_are_scaled_by_1023_and_4095_and_not_cut(mode: str) -> None:
    channels, bits = len(mode.split(";")[0]), int(mode.split(";")[1])
    samples = np.random.default_rng(bits).integers(0, 1 << bits, (48, 64, channels)).astype(np.uint16)
    if channels == 4:
        samples[..., 3] = (1 << bits) - 1
    buffer = io.BytesIO()
    pillow_heif.from_bytes(mode, (64, 48), samples.tobytes()).save(buffer, quality=-1, chroma="444")
    stored = np.asarray(pillow_heif.open_heif(buffer.getvalue(), convert_hdr_to_8bit=False)) >> (16 - bits)
    expected = np.rint(stored * 255.0 / ((1 << bits) - 1)).reshape(48, 64, channels)[..., :3]
    found = np.asarray(decode_image(buffer.getvalue()))
    assert np.array_equal(found, np.broadcast_to(expected, found.shape))


def test_a_turned_photo_is_turned_once() -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    data = photo(exif=exif.tobytes())
    assert decode_image(data).size == pillow_heif.open_heif(data).size == (48, 64)


def test_transparency_is_blended_over_white() -> None:
    image = Image.new("RGBA", (64, 48), (0, 0, 0, 128))
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=-1)
    assert np.abs(np.asarray(decode_image(buffer.getvalue())).astype(int) - 127).max() <= 2


def test_limits_hold_and_a_cut_photo_is_refused() -> None:
    with pytest.raises(ImageTooLarge, match="64 x 48"):
        decode_image(photo(), ImageLimits(max_side=63))
    for end in range(40, len(photo()), 97):
        with pytest.raises(ImageError):
            decode_image(photo()[:end])


def test_without_the_extra_the_message_names_the_format_and_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    data = photo()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageUnsupported, match=r"found a HEIC photo.* Fix: pip install 'lensmount\[heif\]'.* JPEG"):
        decode_image(data)
