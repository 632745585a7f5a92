"""BMP of every depth and header, written by hand by its specification, against the rule for depths."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest

from lensmount_adapters import ImageLimits, decode_image
from lensmount_adapters.errors import ImageError, ImageInvalid, ImageTooLarge

WIDTH, HEIGHT = 23, 11
HEADERS = (12, 40, 52, 56, 64, 108, 124)
RGB555, RGB565 = (0x7C00, 0x3E0, 0x1F), (0xF800, 0x7E0, 0x1F)
MASKS = {
    (16, "555"): RGB555,
    (16, "565"): RGB565,
    (16, "565 as BGR"): RGB565[::-1],
    (16, "444"): (0xF00, 0xF0, 0xF),
    (16, "1555"): (*RGB555, 0x8000),
    (16, "4444"): (0xF00, 0xF0, 0xF, 0xF000),
    (32, "BGRX"): (0xFF0000, 0xFF00, 0xFF),
    (32, "RGBX"): (0xFF, 0xFF00, 0xFF0000),
    (32, "XBGR"): (0xFF000000, 0xFF0000, 0xFF00),
    (32, "10 bits"): (0x3FF00000, 0xFFC00, 0x3FF),
    (32, "BGRA"): (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
    (32, "ARGB"): (0xFF00, 0xFF0000, 0xFF000000, 0xFF),
}


def bmp(
    rows: list[bytes], bits: int, header: int = 40, compression: int = 0, masks: bytes = b"", top_down: bool = False
) -> bytes:
    """Headers, masks or a palette, and rows from the lowest to the highest, each padded to four bytes."""
    body = b"".join(row + bytes(-len(row) % 4) for row in rows)
    if header == 12:
        info = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, bits)
    else:
        height = -HEIGHT if top_down else HEIGHT
        info = struct.pack("<IiiHHIIiiII", header, WIDTH, height, 1, bits, compression, len(body), 2835, 2835, 0, 0)
    if header > 40:
        info, masks = (info + masks).ljust(header, b"\0"), b""
    start = 14 + len(info) + len(masks)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + info + masks + body


def rows_of(values: np.ndarray, kind: str) -> list[bytes]:
    return [row.astype(kind).tobytes() for row in values[::-1]]


def field(values: np.ndarray, mask: int) -> np.ndarray:
    """The documented rule for one colour: its bits as a number, * 255 / the largest, rounded."""
    lowest = mask & -mask
    scaled: np.ndarray = np.rint(((values & mask) // lowest) * 255.0 / (mask // lowest))
    return scaled


def over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    shown: np.ndarray = np.rint(colours * (alpha / 255) + 255 - alpha)
    return shown


@pytest.mark.parametrize(("bits", "name"), MASKS)
def test_masks_of_16_and_32_bits_give_every_colour_its_whole_range(bits: int, name: str) -> None:
    masks = MASKS[bits, name]
    values = np.random.default_rng(bits).integers(0, 1 << bits, (HEIGHT, WIDTH))
    packed = struct.pack(f"<{len(masks)}I", *masks)
    for header in (40, 52, 56, 108, 124):
        if len(masks) == 4 and header < 56:
            continue
        expected = np.stack([field(values, mask) for mask in masks[:3]], axis=2)
        if len(masks) == 4:
            expected = over_white(expected, field(values, masks[3])[..., None])
        data = bmp(rows_of(values, f"<u{bits // 8}"), bits, header, 3, packed.ljust(16 if header >= 56 else 12, b"\0"))
        assert np.abs(np.asarray(decode_image(data)) - expected).max() <= (1 if len(masks) == 4 else 0)


@pytest.mark.parametrize("header", HEADERS)
def test_without_masks_16_bits_are_555_and_the_fourth_byte_of_32_bits_has_no_meaning(header: int) -> None:
    for bits, masks in ((16, RGB555), (32, MASKS[32, "BGRX"])):
        values = np.random.default_rng(bits).integers(0, 1 << bits, (HEIGHT, WIDTH))
        expected = np.stack([field(values, mask) for mask in masks], axis=2)
        found = decode_image(bmp(rows_of(values, f"<u{bits // 8}"), bits, header))
        assert np.array_equal(np.asarray(found), expected)
        if header >= 40:
            upside = bmp(rows_of(values, f"<u{bits // 8}")[::-1], bits, header, top_down=True)
            assert np.array_equal(np.asarray(decode_image(upside)), expected)


@pytest.mark.parametrize(("bits", "header"), list(itertools.product((1, 4, 8, 24), HEADERS)))
def test_palettes_and_24_bits_are_read_whatever_the_header(bits: int, header: int) -> None:
    rng = np.random.default_rng(bits)
    colours: np.ndarray
    if bits == 24:
        colours = rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        data = bmp([row[:, ::-1].tobytes() for row in colours[::-1]], 24, header)
    else:
        table, indices = rng.integers(0, 256, (1 << bits, 3)), rng.integers(0, 1 << bits, (HEIGHT, WIDTH))
        colours = table[indices]
        digits = (indices[..., None] >> np.arange(bits - 1, -1, -1)) & 1
        rows = np.packbits(digits.reshape(HEIGHT, -1).astype(np.uint8), axis=1)
        palette = b"".join(bytes(colour[::-1].tolist()) + b"\0" * (header != 12) for colour in table)
        plain = bmp([row.tobytes() for row in rows[::-1]], bits, header)
        start = struct.unpack_from("<I", plain, 10)[0]
        data = plain[:10] + struct.pack("<I", start + len(palette)) + plain[14:start] + palette + plain[start:]
    assert np.array_equal(np.asarray(decode_image(data)), colours)


def run_lengths() -> dict[str, tuple[list[bytes], np.ndarray]]:
    """Rows of 8-bit run lengths, from the lowest on, and the indices that they mean."""
    runs = np.repeat(np.arange(HEIGHT * 8).reshape(HEIGHT, 8), 3, axis=1)[:, :WIDTH]
    encoded = [b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in runs[::-1].tolist()]
    stated = [b"\0" + bytes([WIDTH, *row]) + b"\0" * (WIDTH % 2) + b"\0\0" for row in runs[::-1].tolist()]
    skipped = np.full((HEIGHT, WIDTH), 7)
    skipped[:, :5] = 0  # what is passed over has the first colour
    return {
        "runs": (encoded, runs),
        "stated values": (stated, runs),
        "a skip": ([b"\0\2\5\0" + bytes([WIDTH - 5, 7]) + b"\0\0"] * HEIGHT, skipped),
    }


@pytest.mark.parametrize("name", run_lengths())
def test_run_lengths_are_read_and_a_cut_is_refused(name: str) -> None:
    rows, indices = run_lengths()[name]
    table = np.random.default_rng(0).integers(0, 256, (256, 3))
    palette = b"".join(bytes(colour[::-1].tolist()) + b"\0" for colour in table)
    body = b"".join(rows)
    data = bmp([], 8, compression=1, masks=palette) + body + b"\0\1"
    assert np.array_equal(np.asarray(decode_image(data)), table[indices])
    with pytest.raises(ImageError):
        decode_image(data[: -len(body) // 2])


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_a_bmp_that_is_cut_is_refused_and_not_filled(bits: int) -> None:
    data = bmp([bytes(WIDTH * bits // 8)] * HEIGHT, bits)
    assert decode_image(data).size == (WIDTH, HEIGHT)
    padding = -(WIDTH * bits // 8) % 4
    for lost in (padding + 1, 50, 400):
        with pytest.raises(ImageInvalid) as caught:
            decode_image(data[:-lost])
        assert caught.value.code == "image_truncated"
    for end in range(2, 54, 3):
        with pytest.raises(ImageError):
            decode_image(data[:end])


@pytest.mark.parametrize(
    ("bits", "compression", "words"),
    [(2, 0, "of 2 bits"), (64, 0, "of 64 bits"), (24, 4, "with a JPEG inside"), (24, 5, "with a PNG inside")],
)
def test_a_kind_that_is_not_read_is_named(bits: int, compression: int, words: str) -> None:
    with pytest.raises(ImageInvalid, match=f"a BMP {words}.* Fix: save it as PNG"):
        decode_image(bmp([bytes(WIDTH * 8)] * HEIGHT, bits, compression=compression))


@pytest.mark.parametrize("masks", [(0, 0xFF, 0xFF00), (0x5, 0xFF00, 0xFF0000), (0xFFFFF, 0xFF00, 0xFF0000)])
def test_masks_without_a_rule_are_refused(masks: tuple[int, ...]) -> None:
    data = bmp([bytes(WIDTH * 4)] * HEIGHT, 32, compression=3, masks=struct.pack("<3I", *masks))
    with pytest.raises(ImageInvalid, match="colour masks"):
        decode_image(data)


def test_the_size_is_checked_before_any_pixel_is_read() -> None:
    with pytest.raises(ImageTooLarge, match="23 x 11"):
        decode_image(bmp([], 32), ImageLimits(max_side=22))
