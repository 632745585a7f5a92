"""PNG of every depth and colour against libpng or a hand-made array, whole whatever its other chunks are."""

from __future__ import annotations

import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest

from lensmount_adapters import decode_image
from lensmount_adapters.errors import ImageInvalid, ImageTooLarge

imagecodecs: Any = pytest.importorskip("imagecodecs", reason="the extra 'torch' is not installed")
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
PALETTE = np.random.default_rng(5).integers(0, 256, (256, 3)).astype(np.uint8)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(samples: np.ndarray, bits: int, colour: int, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG of [H, W, C] by its specification, with chunks before and after the pixels."""
    height, width, _ = samples.shape
    flat = samples.reshape(height, -1).astype(np.uint32)
    digits = (flat[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = np.packbits(digits.reshape(height, -1).astype(np.uint8), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    palette = chunk(b"PLTE", PALETTE[: 1 << bits].tobytes()) if colour == 3 else b""
    pixels = chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + header + palette + before + pixels + after + chunk(b"IEND", b"")


def drawn(bits: int, colour: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << bits, (13, 17, CHANNELS[colour]))


def expected_of(samples: np.ndarray, bits: int, colour: int) -> np.ndarray:
    """The documented rule, in floating point: scaled, then blended over white."""
    if colour == 3:
        colours: np.ndarray = PALETTE[samples[..., 0]].astype(np.float64)
        return colours
    eight = np.rint(samples * 255.0 / ((1 << bits) - 1))
    shown = eight[..., :3] if colour in (2, 6) else eight[..., [0, 0, 0]]
    alpha = eight[..., -1:] if colour in (4, 6) else np.full_like(eight[..., :1], 255)
    blended: np.ndarray = shown * alpha / 255 + 255 - alpha
    return blended


@pytest.mark.parametrize(("colour", "bits"), [(colour, bits) for colour in DEPTHS for bits in DEPTHS[colour]])
def test_every_depth_and_colour_is_equal_to_the_rule(colour: int, bits: int) -> None:
    for seed in range(10):
        samples = drawn(bits, colour, seed)
        found = np.asarray(decode_image(png(samples, bits, colour))).astype(np.float64)
        most = 0.75 if colour in (4, 6) else 0  # blending rounds once
        assert np.abs(found - expected_of(samples, bits, colour)).max() <= most


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_every_depth_is_white(bits: int) -> None:
    samples = drawn(bits, 0)
    clear = int(samples[3, 4, 0])
    found = np.asarray(decode_image(png(samples, bits, 0, chunk(b"tRNS", struct.pack(">H", clear)))))
    rule = np.where(samples == clear, 255, np.rint(samples * 255.0 / ((1 << bits) - 1)))
    assert np.array_equal(found, rule.repeat(3, axis=2))


@pytest.mark.parametrize("bits", [8, 16])
def test_the_transparent_colour_is_white(bits: int) -> None:
    samples = drawn(bits, 2)
    clear = samples[3, 4]
    found = np.asarray(decode_image(png(samples, bits, 2, chunk(b"tRNS", struct.pack(">3H", *clear)))))
    assert found[3, 4].tolist() == [255, 255, 255]
    assert np.array_equal(found[0], np.rint(samples[0] * 255.0 / ((1 << bits) - 1)))


@pytest.mark.parametrize(("colour", "body"), [(0, b"\1"), (2, b"\1\2"), (3, bytes(300)), (6, b"\1\2")])
def test_a_transparency_chunk_that_does_not_fit_costs_nothing(colour: int, body: bytes) -> None:
    samples = drawn(8, colour)
    plain = np.asarray(decode_image(png(samples, 8, colour)))
    assert np.array_equal(np.asarray(decode_image(png(samples, 8, colour, chunk(b"tRNS", body)))), plain)


@pytest.mark.parametrize(("colour", "bits"), [(0, 2), (0, 8), (0, 16), (2, 8), (2, 16), (3, 8)])
def test_a_transparency_chunk_behind_the_pixels_has_no_meaning_at_any_depth(colour: int, bits: int) -> None:
    """The specification wants it before them. libpng passes over a late one, and Pillow does not."""
    samples = drawn(bits, colour)
    body = bytes(200) if colour == 3 else struct.pack(f">{CHANNELS[colour]}H", *samples[3, 4])
    late = np.asarray(decode_image(png(samples, bits, colour, after=chunk(b"tRNS", body))))
    assert np.array_equal(late, np.asarray(decode_image(png(samples, bits, colour))))


def test_indices_without_a_palette_are_refused() -> None:
    data = png(drawn(8, 3), 8, 3)
    start = data.index(b"PLTE") - 4
    without = data[:start] + data[start + 12 + 768 :]
    for broken in (without, data[:start] + chunk(b"PLTE", b"") + data[start + 12 + 768 :]):
        with pytest.raises(ImageInvalid, match=r"without its palette. Fix: save the image again"):
            decode_image(broken)


def exif(orientation: int, order: str = ">") -> bytes:
    start = b"MM\0*" if order == ">" else b"II*\0"
    return start + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


BIG = zlib.compress(bytes(20_000_000))
HEX = exif(6).hex()
TURNING: dict[str, Any] = {
    "eXIf": chunk(b"eXIf", exif(6)),
    "eXIf of the other order": chunk(b"eXIf", exif(6, "<")),
    "ImageMagick's text": chunk(b"tEXt", f"Raw profile type exif\0\nexif\n{len(HEX) // 2}\n{HEX}\n".encode()),
    "older text of ImageMagick": chunk(b"tEXt", f"Raw profile type APP1\0\ngeneric\n{len(HEX) // 2}\n{HEX}\n".encode()),
    "XMP in single quotes": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation = '6' />"),
    "XMP that disagrees": chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="3"/>')
    + chunk(b"eXIf", exif(6)),
    "two blocks": chunk(b"eXIf", exif(6)) + chunk(b"eXIf", exif(3)),
    "16 MB of text": chunk(b"tEXt", b"k\0" + b"v" * (16 << 20)) + chunk(b"eXIf", exif(6)),
    "colours of HDR": chunk(b"cICP", b"\x09\x10\0\1") + chunk(b"mDCV", bytes(24)) + chunk(b"eXIf", exif(6)),
    "a gamma of 0": chunk(b"gAMA", bytes(4)) + chunk(b"sBIT", b"\1\1\1") + chunk(b"eXIf", exif(6)),
    "XMP alone": chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'),
    "a large profile": chunk(b"iCCP", b"icc\0\0" + BIG) + chunk(b"eXIf", exif(6)),
    "a large text": chunk(b"zTXt", b"k\0\0" + BIG) + chunk(b"eXIf", exif(6)),
    "large XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BIG) + chunk(b"eXIf", exif(6)),
    "a broken checksum": chunk(b"tEXt", b"k\0v")[:-1] + b"!" + chunk(b"eXIf", exif(6)),
    "a broken profile": chunk(b"iCCP", b"no zeros here") + chunk(b"eXIf", exif(6)),
    "an unknown chunk": chunk(b"abCd", bytes(99)) + chunk(b"eXIf", exif(6)),
}


@pytest.mark.parametrize("name", TURNING)
def test_other_chunks_never_cost_the_image_and_the_orientation_is_found(name: str) -> None:
    samples = drawn(8, 2)
    for before, after in ((TURNING[name], b""), (b"", TURNING[name])):
        found = np.asarray(decode_image(png(samples, 8, 2, before, after)))
        assert np.array_equal(found, np.rot90(samples, -1))


def test_a_thousand_pngs_with_one_odd_chunk_are_read_and_turned_rightly() -> None:
    rng = random.Random(0)
    samples = drawn(8, 2)
    kinds = [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"cHRM", b"pHYs", b"sBIT", b"tIME", b"hIST", b"sRGB", b"cICP"]
    for _ in range(1000):
        odd = chunk(rng.choice([*kinds, b"eXIf"]), rng.randbytes(rng.choice((0, 1, 2, 9, 40, 500))))
        if odd[4:8] == b"eXIf":  # it is the second one, and says nothing
            odd = chunk(b"tEXt", odd)
        parts = [odd, chunk(b"eXIf", exif(6))]
        rng.shuffle(parts)
        assert np.array_equal(np.asarray(decode_image(png(samples, 8, 2, b"".join(parts)))), np.rot90(samples, -1))


def test_an_animated_png_is_refused_with_its_number_and_a_way_out() -> None:
    with pytest.raises(
        ImageTooLarge, match=r"an animated PNG of 3 frames, expected one frame. Fix: save the one frame"
    ):
        decode_image(png(drawn(8, 2), 8, 2, chunk(b"acTL", struct.pack(">II", 3, 0))))


def test_a_16_bit_png_that_lost_rows_is_refused() -> None:
    data = bytearray(png(drawn(16, 2), 16, 2))
    struct.pack_into(">I", data, 20, 14)  # one row more than there is
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(ImageInvalid) as caught:
        decode_image(bytes(data))
    assert caught.value.code == "image_truncated"


@pytest.mark.parametrize("is_first", [True, False], ids=["the image is the frame", "the frame is another image"])
def test_a_png_with_one_frame_of_animation_is_the_image_that_libpng_shows(is_first: bool) -> None:
    """A frame behind the image may be smaller than it and have an offset. It is not the image."""
    samples, frame = drawn(8, 2), zlib.compress(b"\0" * 4 * 13)
    count = chunk(b"acTL", struct.pack(">II", 1, 0))
    whole = chunk(b"fcTL", struct.pack(">5I2H2B", 0, 17, 13, 0, 0, 1, 10, 0, 0))
    part = chunk(b"fcTL", struct.pack(">5I2H2B", 0, 4, 4, 3, 2, 1, 10, 1, 0))
    behind = part + chunk(b"fdAT", struct.pack(">I", 1) + frame)
    data = png(samples, 8, 2, count + whole) if is_first else png(samples, 8, 2, count, behind)

    assert np.array_equal(np.asarray(decode_image(data)), imagecodecs.png_decode(data))
    assert np.array_equal(imagecodecs.png_decode(data), samples)
