"""A WebP animation of one frame is composed on its canvas as libwebp composes it, and nothing becomes black."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters import decode_image

ALPHA, ANIMATION = 0x10, 0x02
KEEP, BLEND, DISPOSE = 0, 2, 1  # bits of a frame: 2 is set for "do not blend"


def chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def three(number: int) -> bytes:
    return number.to_bytes(3, "little")


def pixels_of(image: Image.Image, lossless: bool) -> bytes:
    """The chunks ALPH, VP8 and VP8L of a still image."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=lossless, exact=True)
    data, at, kept = buffer.getvalue(), 12, b""
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] in (b"VP8 ", b"VP8L", b"ALPH"):
            kept += chunk(data[at : at + 4], data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return kept


def animation(
    frame: Image.Image, at: tuple[int, int], canvas: tuple[int, int], flags: int, lossless: bool = True, bits: int = 0
) -> bytes:
    """A file of one frame, by the WebP container specification. Its stated background is red."""
    left, top = at
    body = chunk(b"VP8X", bytes([ANIMATION | flags, 0, 0, 0]) + three(canvas[0] - 1) + three(canvas[1] - 1))
    body += chunk(b"ANIM", b"\0\0\xff\xff" + b"\0\0")
    place = three(left // 2) + three(top // 2) + three(frame.width - 1) + three(frame.height - 1)
    body += chunk(b"ANMF", place + three(100) + bytes([bits]) + pixels_of(frame, lossless))
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def drawn(with_alpha: bool) -> Image.Image:
    rng = np.random.default_rng(3)
    colours = rng.integers(0, 256, (10, 14, 3)).astype(np.uint8)
    alpha = rng.choice([0, 128, 255], (10, 14, 1)).astype(np.uint8)
    return Image.fromarray(np.concatenate([colours, alpha], 2) if with_alpha else colours)


def over_white(canvas: np.ndarray) -> np.ndarray:
    """Colours [H, W, 4] over white, in float64."""
    alpha = canvas[..., 3:] / 255.0
    return canvas[..., :3] * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("bits", [KEEP, BLEND, DISPOSE, BLEND | DISPOSE])
@pytest.mark.parametrize("flags", [0, ALPHA], ids=["no alpha flag", "an alpha flag"])
@pytest.mark.parametrize("with_alpha", [False, True], ids=["an opaque frame", "a frame with alpha"])
@pytest.mark.parametrize("lossless", [True, False], ids=["lossless", "lossy"])
@pytest.mark.parametrize(
    ("at", "canvas"), [((0, 0), (14, 10)), ((4, 6), (30, 20)), ((0, 0), (20, 12)), ((6, 0), (20, 10))]
)
def test_the_frame_is_composed_over_white(
    at: tuple[int, int], canvas: tuple[int, int], lossless: bool, with_alpha: bool, flags: int, bits: int
) -> None:
    frame = drawn(with_alpha)
    data = animation(frame, at, canvas, flags, lossless, bits)

    still = io.BytesIO()
    frame.save(still, "WEBP", lossless=lossless, exact=True)
    expected = np.zeros((canvas[1], canvas[0], 4))
    expected[at[1] : at[1] + 10, at[0] : at[0] + 14] = np.asarray(Image.open(still).convert("RGBA"))
    found = np.asarray(decode_image(data)).astype(float)
    assert np.abs(found - over_white(expected)).max() <= 1  # rounding of half-transparent pixels
    if lossless and not with_alpha:
        assert np.array_equal(found, over_white(expected))


def test_libwebp_itself_leaves_the_rest_of_the_canvas_transparent() -> None:
    data = animation(drawn(False), (4, 6), (30, 20), ALPHA)
    with Image.open(io.BytesIO(data)) as image:  # Pillow shows what libwebp composes where the flag is set
        composed = np.asarray(image.convert("RGBA"))

    outside = np.ones((20, 30), bool)
    outside[6:16, 4:18] = False
    assert (composed[outside][:, 3] == 0).all()
    assert np.array_equal(np.asarray(decode_image(data)), over_white(composed))
