"""A strip or tile never writes more than it holds, and one that is cut, large or odd is refused within a second."""

from __future__ import annotations

import contextlib
import io
import itertools
import time
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.adapters.inputs.tiff_by_hand import packed, simple, tags_of, tiff

from lensmount_adapters import decode_image
from lensmount_adapters.errors import ImageError, ImageInvalid

imagecodecs: Any = pytest.importorskip("imagecodecs", reason="the extra 'torch' is not installed")
SAMPLES = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
RAW = packed(SAMPLES, 8)
ENCODED = {
    5: imagecodecs.lzw_encode(RAW),
    8: zlib.compress(RAW),
    32773: imagecodecs.packbits_encode(RAW),
    34925: imagecodecs.lzma_encode(RAW),
    50000: imagecodecs.zstd_encode(RAW),
}
ZEROS = bytes(200_000_000)


def of_strip(strip: bytes, compression: int, **tags: Any) -> bytes:
    return tiff(tags_of(SAMPLES, 8, 2, compression) | {int(tag[1:]): value for tag, value in tags.items()}, [strip])


@pytest.mark.parametrize("compression", ENCODED)
def test_a_whole_strip_is_read_and_a_cut_one_is_refused(compression: int) -> None:
    assert np.array_equal(np.asarray(decode_image(of_strip(ENCODED[compression], compression))), SAMPLES)
    for lost in (150, 200, len(ENCODED[compression]) // 2):
        with pytest.raises(ImageError):
            decode_image(of_strip(ENCODED[compression][:-lost], compression))


@pytest.mark.parametrize("compression", [5, 8, 34925, 50000])
def test_a_strip_that_would_unfold_to_hundreds_of_megabytes_costs_no_memory(compression: int, grown_mib: Any) -> None:
    encode = {
        5: imagecodecs.lzw_encode,
        8: zlib.compress,
        34925: imagecodecs.lzma_encode,
        50000: imagecodecs.zstd_encode,
    }
    data = of_strip(encode[compression](ZEROS[: 20_000_000 if compression != 50000 else None]), compression)

    def decode() -> None:
        with contextlib.suppress(ImageError):
            assert not np.asarray(decode_image(data)).any()

    start = time.perf_counter()
    assert grown_mib(decode) < 15
    assert time.perf_counter() - start < 1


def test_a_jpeg_of_another_size_than_its_strip_is_refused() -> None:
    large = imagecodecs.jpeg8_encode(np.zeros((3000, 3000, 3), np.uint8))
    with pytest.raises(ImageInvalid, match="a JPEG of 3000 x 3000 x 3 in a TIFF strip or tile of 20 x 30 x 3"):
        decode_image(of_strip(large, 7))
    whole = imagecodecs.jpeg8_encode(SAMPLES, colorspace="RGB", outcolorspace="RGB")
    assert decode_image(of_strip(whole, 7)).size == (30, 20)
    with pytest.raises(ImageInvalid, match="cut"):
        decode_image(of_strip(whole[:-100], 7))


def test_a_predictor_where_readers_disagree_is_refused_by_name() -> None:
    with pytest.raises(ImageInvalid, match="a predictor and compressed by none"):
        decode_image(simple(SAMPLES, 8, 2, more={317: (3, [2])}))
    with pytest.raises(ImageInvalid, match="12-bit samples with the predictor 2"):
        decode_image(simple(SAMPLES, 12, 2, compression=8, more={317: (3, [2])}))


@pytest.mark.parametrize("compression", [6, 34887, 34933, 50002, 65000, 0])
def test_other_compressions_are_refused_by_number_with_a_way_out(compression: int) -> None:
    with pytest.raises(ImageInvalid, match=f"compressed by .*method {compression}.* Fix: save it with LZW"):
        decode_image(of_strip(RAW, compression))
    assert np.array_equal(np.asarray(decode_image(of_strip(ENCODED[5], 5))), SAMPLES)


FAX = {2: "tiff_ccitt", 3: "group3", 4: "group4"}


@pytest.mark.parametrize("compression", FAX)
@pytest.mark.parametrize("black", [0.02, 0.3, 0.9])
def test_fax_data_that_is_cut_is_refused_and_not_left_white(compression: int, black: float) -> None:
    lines = np.random.default_rng(0).random((60, 75)) > black
    buffer = io.BytesIO()
    Image.fromarray(lines).save(buffer, "TIFF", compression=FAX[compression])
    expected = np.asarray(decode_image(buffer.getvalue()))
    assert np.array_equal(expected[..., 0], lines * 255)
    with Image.open(buffer) as opened:
        tags: Any = opened.tag_v2  # type: ignore[attr-defined]  # a TIFF has it
        offset, length, photometric = tags[273][0], tags[279][0], tags[262]
    strip = buffer.getvalue()[offset : offset + length]
    again = tags_of(np.zeros((60, 75, 1)), 1, photometric, compression)
    assert np.array_equal(np.asarray(decode_image(tiff(again, [strip]))), expected)
    for kept in (length // 4, length // 2, length - 20):
        with pytest.raises(ImageError):
            decode_image(tiff(again, [strip[:kept]]))


def test_a_planar_jpeg_of_ycbcr_becomes_rgb() -> None:
    """Each plane is a grey JPEG, so its decoder cannot do it."""
    picture = Image.fromarray(SAMPLES[::5, ::5]).resize((30, 20))
    planes = np.asarray(picture.convert("YCbCr")).transpose(2, 0, 1)
    parts = [imagecodecs.jpeg8_encode(np.ascontiguousarray(plane), 100) for plane in planes]
    tags: Any = tags_of(SAMPLES, 8, 6, 7) | {284: (3, [2]), 530: (3, [1, 1])}
    found = np.asarray(decode_image(tiff(tags, parts))).astype(int)
    assert np.abs(found - np.asarray(picture)).max() <= 6


def test_a_jpeg_of_12_bits_in_a_tiff_is_scaled_by_4095() -> None:
    samples = np.random.default_rng(1).integers(0, 4096, (20, 30, 1)).astype(np.uint16)
    strip = imagecodecs.jpeg8_encode(samples[..., 0], 100, bitspersample=12)
    found = np.asarray(decode_image(tiff(tags_of(samples, 12, 1, 7), [strip])))[..., 1]
    assert np.array_equal(found, np.rint(imagecodecs.jpeg8_decode(strip) * 255.0 / 4095))
    with pytest.raises(ImageInvalid, match="a JPEG of 12 bits in a TIFF of 8-bit samples"):
        decode_image(tiff(tags_of(samples, 8, 1, 7), [strip]))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_every_layout_of_predicted_samples_is_read(order: str, planar: int, tiled: bool, bits: int) -> None:
    """32 rows of differences for each lossless compression, written by hand."""
    compress = {
        5: imagecodecs.lzw_encode,
        8: zlib.compress,
        34925: imagecodecs.lzma_encode,
        50000: imagecodecs.zstd_encode,
    }
    for compression, photometric in itertools.product(compress, (2, 5)):
        channels = {2: 3, 5: 4}[photometric]
        samples = np.random.default_rng(bits).integers(0, 1 << bits, (32, 48, channels)).astype(f"u{bits // 8}")
        height, width = (16, 16) if tiled else (10, 48)
        planes = [samples[..., c : c + 1] for c in range(channels)] if planar == 2 else [samples]
        segments = []
        for plane, top, left in itertools.product(planes, range(0, 32, height), range(0, 48, width)):
            part = plane[top : top + height, left : left + width]
            part = np.diff(part, axis=1, prepend=np.zeros_like(part[:, :1]))
            segments.append(compress[compression](part.astype(f"{order}u{bits // 8}").tobytes()))
        tags: Any = tags_of(samples, bits, photometric, compression) | {284: (3, [planar]), 317: (3, [2])}
        tags |= {322: (4, [16]), 323: (4, [16])} if tiled else {278: (4, [10])}
        eight = np.rint(samples * 255.0 / ((1 << bits) - 1)).astype(np.uint8)
        if photometric == 5:
            eight = np.asarray(Image.frombytes("CMYK", (48, 32), eight.tobytes()).convert("RGB"))
        assert np.array_equal(np.asarray(decode_image(tiff(tags, segments, order, tiled))), eight)


def test_strips_that_share_their_data_cost_no_time() -> None:
    """20,000 strips of one row that all begin at the same million bytes of empty deflate blocks."""
    empty = b"\x78\x01" + b"\0\0\0\xff\xff" * 200_000
    tags = tags_of(np.zeros((1, 1, 3)), 8, 2, 8) | {257: (4, [10_000]), 278: (4, [1])}
    tags |= {273: (4, [8] * 10_000), 279: (4, [len(empty)] * 10_000)}
    start = time.perf_counter()
    with pytest.raises(ImageInvalid, match="share their data"):
        decode_image(tiff(tags, [empty]))
    assert time.perf_counter() - start < 1
