"""JPEG 2000 of 8 to 16 bits against OpenJPEG and the array that was written; what it lacks is refused by name."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from lensmount_adapters import ImageLimits, decode_image
from lensmount_adapters.errors import ImageError, ImageInvalid, ImageTooLarge

imagecodecs: Any = pytest.importorskip("imagecodecs", reason="the extra 'torch' is not installed")


def drawn(bits: int, channels: int) -> np.ndarray:
    samples = np.random.default_rng(bits).integers(0, 1 << bits, (40, 50, channels))
    samples = samples.astype(np.uint8 if bits <= 8 else np.uint16)
    return samples[..., 0] if channels == 1 else samples


def jpeg2000(samples: np.ndarray, bits: int, kind: str = "jp2") -> bytes:
    encoded: bytes = imagecodecs.jpeg2k_encode(samples, level=0, codecformat=kind, bitspersample=bits)
    return encoded


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["jp2", "j2k"])
def test_each_depth_is_scaled_by_the_rule(bits: int, channels: int, kind: str) -> None:
    samples = drawn(bits, channels)
    rule = np.rint(samples * 255.0 / ((1 << bits) - 1))
    found = np.asarray(decode_image(jpeg2000(samples, bits, kind)))
    assert np.array_equal(found, rule if channels == 3 else rule[..., None].repeat(3, axis=2))


def test_signed_samples_are_refused_by_name() -> None:
    data = bytearray(jpeg2000(drawn(12, 1), 12, "j2k"))
    data[42] |= 0x80
    with pytest.raises(ImageInvalid, match="a JPEG 2000 image of signed 12-bit samples"):
        decode_image(bytes(data))


def test_every_cut_is_refused() -> None:
    for bits in (8, 16):
        data = jpeg2000(drawn(bits, 3), bits)
        for end in range(20, len(data) - 40, 251):
            with pytest.raises(ImageError):
                decode_image(data[:end])


def test_sizes_and_tiles_are_checked_before_the_decoder_runs() -> None:
    data = bytearray(jpeg2000(drawn(8, 1), 8, "j2k"))
    with pytest.raises(ImageTooLarge, match="50 x 40"):
        decode_image(bytes(data), ImageLimits(max_side=49))
    struct.pack_into(">2I", data, 24, 1, 1)  # tiles of one pixel
    struct.pack_into(">2I", data, 8, 5000, 5000)
    with pytest.raises(ImageTooLarge, match="25000000 tiles"):
        decode_image(bytes(data))


def test_tiny_code_blocks_of_a_large_image_are_refused() -> None:
    data = bytearray(jpeg2000(drawn(8, 1), 8, "j2k"))
    struct.pack_into(">2I", data, 8, 6000, 6000)
    struct.pack_into(">2I", data, 24, 6000, 6000)
    coding = data.index(b"\xff\x52")
    data[coding + 10] = data[coding + 11] = 0
    with pytest.raises(ImageTooLarge, match="code-blocks of 16 pixels"):
        decode_image(bytes(data))
