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


EXIF = segment(0xE1, b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, 6, 0, 0))
XMP = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='6'/>")


@pytest.mark.parametrize("bits", [2, 3, 5, 7, 9, 10, 12, 13, 14, 15, 16])
@pytest.mark.parametrize("metadata", [b"", EXIF, XMP])
def test_a_lossless_jpeg_of_any_depth_is_scaled_and_turned(bits: int, metadata: bytes) -> None:
    imagecodecs: Any = pytest.importorskip("imagecodecs", reason="the extra 'torch' is not installed")
    samples = np.random.default_rng(bits).integers(0, 1 << bits, (24, 40)).astype(np.uint8 if bits < 9 else np.uint16)
    data = imagecodecs.jpeg8_encode(samples, lossless=True, bitspersample=bits)
    rule = np.rint(samples.astype(np.float64) * 255 / ((1 << bits) - 1))
    found = np.asarray(decode_image(data[:2] + metadata + data[2:]))[..., 0]
    assert np.array_equal(found, np.rot90(rule, -1) if metadata else rule)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("metadata", [EXIF, XMP])
def test_a_12_bit_jpeg_is_turned_too(channels: int, metadata: bytes) -> None:
    imagecodecs: Any = pytest.importorskip("imagecodecs", reason="the extra 'torch' is not installed")
    samples = np.random.default_rng(0).integers(0, 4096, (24, 40, channels)).astype(np.uint16)
    data = imagecodecs.jpeg8_encode(samples if channels == 3 else samples[..., 0], 95, bitspersample=12)
    plain = np.asarray(decode_image(data))
    assert np.array_equal(np.asarray(decode_image(data[:2] + metadata + data[2:])), np.rot90(plain, -1))


@pytest.mark.parametrize("bits", [8, 12])
def test_a_jpeg_that_lost_its_end_is_refused_also_where_zeros_stand_for_it(bits: int) -> None:
    """A download that stopped in a file of the full length ends in zeros, which libjpeg decodes without a word."""
    imagecodecs: Any = pytest.importorskip("imagecodecs", reason="the extra 'torch' is not installed")
    samples = np.asarray(IMAGE).astype(np.uint16) << (bits - 8)
    data = imagecodecs.jpeg8_encode(samples.astype(np.uint8 if bits == 8 else np.uint16), 95, bitspersample=bits)
    assert decode_image(data + bytes(5000)).size == decode_image(data + b"a tail").size == IMAGE.size
    for lost in (2, 100, 500):
        for filler in (b"", bytes(lost), bytes(5000)):
            with pytest.raises(ImageInvalid) as caught:
                decode_image(data[:-lost] + filler)
            assert caught.value.code == "image_truncated"


def test_the_end_marker_of_a_thumbnail_is_not_that_of_the_image() -> None:
    data = saved()
    with pytest.raises(ImageInvalid, match="end marker is missing"):
        decode_image(data[:2] + segment(0xE1, b"Exif\0\0" + saved()[:60000]) + data[2:-2] + bytes(999))


def test_a_height_that_stands_behind_the_pixels_is_found() -> None:
    """Scanners that do not know the height beforehand write it into the marker DNL (T.81, B.2.5)."""
    data = saved()
    frame = data.index(b"\xff\xc0")
    scanned = data[: frame + 5] + b"\0\0" + data[frame + 7 : -2] + b"\xff\xdc\0\4" + data[frame + 5 : frame + 7]
    assert np.array_equal(np.asarray(decode_image(scanned + b"\xff\xd9")), np.asarray(decode_image(data)))


@pytest.mark.parametrize("kind", [5, 6, 7, 11, 13, 14, 15])
def test_a_kind_that_no_decoder_reads_is_named(kind: int) -> None:
    data = bytearray(saved())
    data[data.index(b"\xff\xc0") + 1] = 0xC0 + kind
    with pytest.raises(ImageInvalid, match=rf"hierarchical or arithmetic lossless JPEG \(SOF{kind}\).* Fix: save it"):
        decode_image(bytes(data))


def test_a_depth_that_no_jpeg_may_have_is_named() -> None:
    data = bytearray(saved())
    data[data.index(b"\xff\xc0") + 4] = 16
    with pytest.raises(ImageInvalid, match=r"a JPEG of 3 channels of 16 bits.* Fix: save it as PNG"):
        decode_image(bytes(data))
