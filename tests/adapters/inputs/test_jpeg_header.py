"""A JPEG is read whatever its metadata holds, and a kind that Pillow does not read is decoded or named."""

from __future__ import annotations

import io
import random
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters import decode_image
from lensmount_adapters.errors import ImageInvalid
from lensmount_adapters.inputs.jpeg_header import jpeg_frame, jpeg_size, without_metadata

COARSE = np.random.default_rng(0).integers(0, 255, (3, 4, 3), dtype=np.uint8)
IMAGE = Image.fromarray(COARSE).resize((40, 24), Image.Resampling.BICUBIC)


def saved(kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    IMAGE.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(odd: tuple[int, int, int, bytes], more: bytes, rng: random.Random) -> bytes:
    entries = [odd, (0x112, 3, 1, struct.pack(">HH", 6, 0))]
    rng.shuffle(entries)
    body = b"".join(struct.pack(">HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + body + bytes(4) + more


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_thousand_whole_files_with_one_odd_tag_are_read_and_turned_rightly(kind: str) -> None:
    rng = random.Random(kind)
    expected = np.rot90(np.asarray(Image.open(io.BytesIO(saved(kind)))), -1)
    known = [
        0x100,
        0x103,
        0x10E,
        0x10F,
        0x11A,
        0x11B,
        0x128,
        0x132,
        0x8298,
        0x8769,
        0x8825,
        0x9286,
        0xA005,
        0x14A,
        0x111,
    ]
    for _ in range(1000):
        tag = rng.choice([*known, rng.randrange(0x113, 65_536)])
        count = rng.choice((0, 1, 2, 5, 200, 2**31, 2**32 - 1, rng.randrange(2**32)))
        odd = (tag, rng.choice((0, *range(1, 14), 99)), count, rng.choice((rng.randbytes(4), b"\0\0\0\x08")))
        data = saved(kind, exif=exif(odd, rng.randbytes(rng.choice((0, 3, 30))), rng))
        assert np.array_equal(np.asarray(decode_image(data)), expected)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


@pytest.mark.parametrize(
    "odd",
    [
        segment(0xE2, b"MPF\0broken"),
        segment(0xE2, b"ICC_PROFILE\0\1\2" + bytes(65_000)),
        segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\xff\xff\xff\xff"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<broken" + bytes(60_000)),
        segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        segment(0xFE, b"\xff" * 60_000),
        segment(0xE0, b"JFXX\0\x10"),
        segment(0xEB, b"JP\0\1" + bytes(40)),
    ],
    ids=["MPF", "ICC", "Photoshop", "XMP", "EXIF", "comment", "JFXX", "APP11"],
)
def test_odd_segments_cost_nothing(odd: bytes) -> None:
    plain = saved()
    expected = np.asarray(decode_image(plain))
    assert np.array_equal(np.asarray(decode_image(plain[:2] + odd + plain[2:])), expected)
    assert without_metadata(plain[:2] + segment(0xE5, b"x") + plain[2:]) == plain


def test_the_frame_header_is_found_behind_other_segments() -> None:
    data = saved()
    assert jpeg_size(data[:2] + segment(0xE1, bytes(9000)) + data[2:]) == (24, 40, 3)
    assert jpeg_frame(saved(progressive=True))[0] == 0xC2
    with pytest.raises(ImageInvalid, match="frame header"):
        jpeg_size(data[:20])


def test_a_12_bit_jpeg_is_scaled_by_4095_and_a_lossless_one_is_read_or_named() -> None:
    imagecodecs: Any = pytest.importorskip("imagecodecs", reason="the extra 'torch' is not installed")
    samples = (np.asarray(IMAGE.convert("L")).astype(np.uint16) * 16) + 7
    data = imagecodecs.jpeg8_encode(samples, 95, bitspersample=12)
    rule = np.rint(imagecodecs.jpeg8_decode(data) * 255.0 / 4095)
    assert np.array_equal(np.asarray(decode_image(data))[..., 1], rule)
    lossless = imagecodecs.ljpeg_encode(np.asarray(IMAGE.convert("L")), bitspersample=8)
    assert np.array_equal(np.asarray(decode_image(lossless))[..., 0], np.asarray(IMAGE.convert("L")))
    deep = imagecodecs.ljpeg_encode(samples, bitspersample=16)
    with pytest.raises(ImageInvalid, match=r"a JPEG of 1 channels of 16 bits.* Fix: save it as PNG"):
        decode_image(deep)
