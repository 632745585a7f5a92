"""A strip or tile never writes more than it holds, and one that is cut, large or odd is refused within a second."""

from __future__ import annotations

import contextlib
import time
import zlib
from typing import Any

import numpy as np
import pytest
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
    with pytest.raises(ImageInvalid, match=f"compressed by method {compression}.* Fix: save it with LZW"):
        decode_image(of_strip(RAW, compression))
    assert np.array_equal(np.asarray(decode_image(of_strip(ENCODED[5], 5))), SAMPLES)


def test_strips_that_share_their_data_cost_no_time() -> None:
    """20,000 strips of one row that all begin at the same million bytes of empty deflate blocks."""
    empty = b"\x78\x01" + b"\0\0\0\xff\xff" * 200_000
    tags = tags_of(np.zeros((1, 1, 3)), 8, 2, 8) | {257: (4, [10_000]), 278: (4, [1])}
    tags |= {273: (4, [8] * 10_000), 279: (4, [len(empty)] * 10_000)}
    start = time.perf_counter()
    with pytest.raises(ImageInvalid, match="share their data"):
        decode_image(tiff(tags, [empty]))
    assert time.perf_counter() - start < 1
