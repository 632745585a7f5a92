"""A matrix of TIFF files that tifffile or libtiff wrote, against the array that was written, by the documented rule."""

from __future__ import annotations

import io
import itertools
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.adapters.inputs.tiff_by_hand import packed, simple, tags_of, tiff

from lensmount_adapters import decode_image
from lensmount_adapters.errors import ImageError, ImageInvalid

tifffile: Any = pytest.importorskip("tifffile", reason="the extra 'volumes' is not installed")
imagecodecs: Any = pytest.importorskip("imagecodecs", reason="the extra 'torch' is not installed")

HEIGHT, WIDTH = 34, 37
LOSSLESS = (None, "lzw", "zlib", "zstd", "packbits", "lzma")


def drawn(channels: int, bits: int, dtype: Any = None, seed: int = 0) -> np.ndarray:
    """Random samples of all values, smallest and largest included; [H, W] for one channel."""
    dtype = dtype or (np.uint8 if bits <= 8 else np.uint16)
    samples = np.random.default_rng(seed + bits).integers(0, 1 << bits, (HEIGHT, WIDTH, channels)).astype(dtype)
    samples[0, 0], samples[0, 1] = 0, (1 << bits) - 1
    return samples[..., 0] if channels == 1 else samples


def in_8_bits(samples: np.ndarray, bits: int) -> np.ndarray:
    """The documented rule in floating point: value * 255 / (2^bits - 1), rounded."""
    return np.rint(samples.astype(np.float64) * 255 / ((1 << bits) - 1)).astype(np.uint8)


def written(samples: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **{"metadata": None, **options})
    return buffer.getvalue()


def rgb(samples: np.ndarray) -> np.ndarray:
    return samples if samples.ndim == 3 else np.repeat(samples[..., None], 3, axis=2)


def lossless_cases() -> Iterator[Any]:
    depths = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
    for bits, compression, photometric, order in itertools.product(
        depths, LOSSLESS, ("minisblack", "miniswhite"), "<>"
    ):
        if bits not in (1, 8, 16) and compression is not None:
            continue  # tifffile does not write these
        if bits not in (1, 8, 16) and order == ">":
            continue  # and does not read its own files of this kind; those of the matrix by hand it does
        yield bits, 1, {"compression": compression, "photometric": photometric, "byteorder": order}
    for bits, compression, layout, order in itertools.product((8, 16), LOSSLESS, ("contig", "separate"), "<>"):
        yield bits, 3, {"compression": compression, "photometric": "rgb", "planarconfig": layout, "byteorder": order}
    for bits, channels, compression, tile in itertools.product(
        (8, 16), (1, 3), LOSSLESS, ((16, 16), (16, 48), (64, 64))
    ):
        yield bits, channels, {"compression": compression, "tile": tile, "byteorder": "<>"[bits == 16]}
    for bits, channels, compression in itertools.product((8, 16), (1, 3), ("lzw", "zlib", "zstd")):
        for more in ({}, {"tile": (16, 32)}, {"rowsperstrip": 5}, {"byteorder": ">"}, {"bigtiff": True}):
            yield bits, channels, {"compression": compression, "predictor": 2, **more}
    for bits, channels, rows in itertools.product((8, 16), (1, 3), (1, 5, 33, 34)):
        yield bits, channels, {"rowsperstrip": rows, "compression": "zlib"}
        yield bits, channels, {"rowsperstrip": rows, "bigtiff": True, "byteorder": ">"}


CASES = list(lossless_cases())
BY_HAND = list(itertools.product(range(1, 17), (0, 1, 2), "<>", (1, 8), (1, 2), (1, 2, 3)))
"""Bits, photometric (white is zero, black is zero, RGB), byte order, compression, fill order, strips."""


def test_the_matrix_has_hundreds_of_cases() -> None:
    assert len(CASES) + len(BY_HAND) > 800


def test_each_lossless_tiff_of_the_matrix_is_equal_to_the_array_that_was_written() -> None:
    wrong: list[str] = []
    for bits, channels, options in CASES:
        samples = drawn(channels, bits)
        more: dict[str, Any] = {"photometric": "minisblack" if channels == 1 else "rgb"} | options
        if bits not in (8, 16):
            more["bitspersample"] = bits
        stored = samples
        if more.get("planarconfig") == "separate":
            stored = np.moveaxis(samples, 2, 0)
        expected = rgb(in_8_bits(samples, bits))
        if more["photometric"] == "miniswhite":
            expected = 255 - expected
        data = written(stored.astype(bool) if bits == 1 else stored, **more)
        try:
            found = np.asarray(decode_image(data))
        except ImageError as error:
            wrong.append(f"{bits} bits, {channels} channels, {options}: {error}")
            continue
        if not np.array_equal(found, expected):
            wrong.append(f"{bits} bits, {channels} channels, {options}: {np.abs(found - expected.astype(int)).max()}")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(CASES)}", *wrong[:20]])


def test_each_tiff_that_was_written_by_hand_is_equal_to_its_array_at_every_depth() -> None:
    reversed_bits = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
    wrong = []
    for bits, photometric, order, compression, fill_order, strips in BY_HAND:
        samples = drawn(3 if photometric == 2 else 1, bits).reshape(HEIGHT, WIDTH, -1)
        rows = -(-HEIGHT // strips)
        parts = [packed(samples[top : top + rows], bits, order) for top in range(0, HEIGHT, rows)]
        parts = [zlib.compress(part) for part in parts] if compression == 8 else parts
        parts = [part.translate(reversed_bits) for part in parts] if fill_order == 2 else parts
        tags = tags_of(samples, bits, photometric, compression) | {278: (3, [rows]), 266: (3, [fill_order])}
        expected = in_8_bits(samples if photometric else ((1 << bits) - 1) - samples, bits)
        found = np.asarray(decode_image(tiff(tags, parts, order)))
        if not np.array_equal(found, np.broadcast_to(expected, found.shape)):
            wrong.append((bits, photometric, order, compression, fill_order, strips))
    assert not wrong


@pytest.mark.parametrize("bits", [2, 5, 8, 12, 16])
@pytest.mark.parametrize("order", "<>")
def test_tifffile_reads_the_files_by_hand_as_they_were_meant(bits: int, order: str) -> None:
    samples = drawn(1, bits)
    assert np.array_equal(tifffile.imread(io.BytesIO(simple(samples, bits, 1, order))), samples)


TURNED = {  # where the first row and the first column of the file are seen, by the TIFF specification
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_every_depth_is_applied_once(orientation: int) -> None:
    for bits, photometric in ((1, 0), (8, 2), (12, 1), (16, 0), (16, 2)):
        samples = drawn(3 if photometric == 2 else 1, bits)
        plain = np.asarray(decode_image(simple(samples, bits, photometric)))
        for kind in (3, 4, 1):  # the specification says SHORT; other whole numbers are taken as well
            more = {274: (kind, [orientation] if kind != 1 else bytes([orientation]))}
            found = np.asarray(decode_image(simple(samples, bits, photometric, more=more)))
            assert np.array_equal(found, TURNED[orientation](plain))


@pytest.mark.parametrize(("tag", "xmp", "turned"), [(None, 6, 6), (3, 6, 3), (9, 6, 1), (6, None, 6), (1, 8, 1)])
def test_xmp_turns_an_image_only_without_the_tag(tag: int | None, xmp: int | None, turned: int) -> None:
    samples = drawn(3, 8)
    more: dict[int, Any] = {} if tag is None else {274: (3, [tag])}
    more |= {} if xmp is None else {700: (1, f"<x tiff:Orientation='{xmp}'/>".encode())}
    assert np.array_equal(np.asarray(decode_image(simple(samples, 8, 2, more=more))), TURNED[turned](samples))


@pytest.mark.parametrize("extra", [0, 1, 2, None])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_fourth_sample_is_alpha_only_if_the_file_says_so_or_nothing(extra: int | None, bits: int) -> None:
    samples = drawn(4, bits)
    if extra == 1:  # premultiplied: no colour is above its alpha
        samples[..., :3] = np.minimum(samples[..., :3], samples[..., 3:])
    more = {} if extra is None else {338: (3, [extra])}
    found = np.asarray(decode_image(simple(samples, bits, 2, more=more))).astype(int)
    colours, alpha = np.split(in_8_bits(samples, bits).astype(np.float64), [3], axis=2)
    over_white = {0: colours, 1: colours + 255 - alpha}.get(
        -1 if extra is None else extra, (colours * alpha + 255 * (255 - alpha)) / 255
    )
    assert np.abs(found - over_white).max() <= (0 if extra == 0 else 1)


def test_grey_with_alpha_is_blended_over_white_also_if_white_is_zero() -> None:
    samples = np.zeros((2, 2, 2), np.uint8)
    samples[..., 0], samples[..., 1] = 30, [[255, 0], [128, 255]]
    for photometric, grey in ((1, 30), (0, 225)):
        found = np.asarray(decode_image(simple(samples, 8, photometric, more={338: (3, [2])})))[..., 0]
        half = round((grey * 128 + 255 * 127) / 255)
        assert found.tolist() == [[grey, 255], [half, grey]]


def test_an_image_that_is_transparent_everywhere_is_refused_with_the_way_out() -> None:
    samples = drawn(4, 8)
    samples[..., 3] = 0
    with pytest.raises(ImageInvalid, match=r"transparent everywhere .* Fix: remove the alpha channel"):
        decode_image(simple(samples, 8, 2, more={338: (3, [2])}))
    assert np.array_equal(np.asarray(decode_image(simple(samples[..., :3], 8, 2))), samples[..., :3])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("colour_bits", [8, 16])
def test_a_palette_gives_its_colours_also_where_a_writer_put_8_bits_into_it(bits: int, colour_bits: int) -> None:
    colours = np.random.default_rng(bits).integers(0, 1 << colour_bits, (1 << bits, 3))
    colours[0, 0] = (1 << colour_bits) - 1
    indices = drawn(1, bits)
    more = {320: (3, colours.T.ravel().tolist())}
    found = np.asarray(decode_image(simple(indices, bits, 3, more=more)))
    assert np.array_equal(found, in_8_bits(colours, colour_bits)[indices])


def test_cmyk_and_lab_are_converted_as_pillow_converts_them() -> None:
    inks = drawn(4, 8)
    expected = Image.frombytes("CMYK", (WIDTH, HEIGHT), inks.tobytes()).convert("RGB")
    assert np.array_equal(np.asarray(decode_image(simple(inks, 8, 5))), np.asarray(expected))
    lab = drawn(3, 8)
    buffer = io.BytesIO()
    Image.frombytes("LAB", (WIDTH, HEIGHT), lab.tobytes(), "raw", "LAB").save(buffer, "TIFF")
    expected = Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")
    assert np.array_equal(np.asarray(decode_image(buffer.getvalue())), np.asarray(expected))


def test_ycbcr_without_jpeg_is_converted_as_jpeg_does_it_or_refused() -> None:
    samples = drawn(3, 8)
    expected = Image.frombytes("YCbCr", (WIDTH, HEIGHT), samples.tobytes()).convert("RGB")
    plain: Any = {530: (3, [1, 1])}
    assert np.array_equal(np.asarray(decode_image(simple(samples, 8, 6, more=plain))), np.asarray(expected))
    for more in ({530: (3, [2, 2])}, {}, plain | {532: (5, [15, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1])}):
        with pytest.raises(ImageInvalid, match="YCbCr"):
            decode_image(simple(samples, 8, 6, more=more))


@pytest.mark.parametrize("compression", ["jpeg", "webp", "jpeg2000"])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"tile": (32, 48)}, {"rowsperstrip": 16}], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_image_codecs_in_strips_and_tiles_are_read_as_tifffile_reads_them(
    compression: str, options: dict[str, Any], channels: int
) -> None:
    if compression == "webp" and channels == 1:
        pytest.skip("WebP has no grey")
    samples = np.asarray(Image.fromarray(drawn(channels, 8)).resize((64, 48)).resize((WIDTH, HEIGHT)))
    data = written(samples, compression=compression, photometric="rgb" if channels == 3 else "minisblack", **options)
    assert np.array_equal(np.asarray(decode_image(data)), rgb(tifffile.imread(io.BytesIO(data))))


def test_the_jpeg_of_a_ycbcr_tiff_by_pillow_is_read_as_libtiff_reads_it() -> None:
    buffer = io.BytesIO()
    Image.fromarray(drawn(3, 8)).convert("YCbCr").save(buffer, "TIFF", compression="jpeg")
    expected = imagecodecs.tiff_decode(buffer.getvalue(), asrgb=True)[..., :3]
    found = np.asarray(decode_image(buffer.getvalue()))
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_fax_compression_is_read_as_libtiff_reads_it(compression: str, photometric: int) -> None:
    buffer = io.BytesIO()
    image = Image.fromarray(drawn(1, 1) * 255).convert("1")
    image.save(buffer, "TIFF", compression=compression, tiffinfo={262: photometric})
    expected = imagecodecs.tiff_decode(buffer.getvalue(), asrgb=True)[..., 0]
    assert np.array_equal(np.asarray(decode_image(buffer.getvalue()))[..., 0], expected)
