"""Which page of a TIFF is the image, and what is said about a TIFF that is none or several."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.adapters.inputs.tiff_by_hand import packed, simple, tags_of, tiff, tiff_of_pages

from lensmount_adapters import ImageLimits, decode_image
from lensmount_adapters.errors import ImageError, ImageInvalid, ImageTooLarge

tifffile: Any = pytest.importorskip("tifffile", reason="the extra 'volumes' is not installed")
SAMPLES = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
SMALL = SAMPLES[::2, ::2]


def page(samples: np.ndarray, kind: int = 0, **more: Any) -> Any:
    return tags_of(samples, 8, 2) | {254: (4, [kind])} | more.get("tags", {}), [packed(samples, 8)]


@pytest.mark.parametrize(
    "pages",
    [
        [page(SAMPLES), page(SMALL, 1)],
        [page(SMALL, 1), page(SAMPLES)],
        [page(SAMPLES), page(SMALL, 1), page(SMALL[::2, ::2], 1)],
        [page(SAMPLES), page(SAMPLES, 4)],
        [page(SAMPLES), page(SMALL, tags={255: (3, [2])})],
        [page(SAMPLES, 2)],
        [page(SAMPLES, 1)],
    ],
    ids=["thumbnail last", "thumbnail first", "pyramid", "mask", "old tag", "page of one", "only a reduced one"],
)
def test_thumbnails_pyramids_and_masks_are_not_the_image(pages: Any) -> None:
    assert np.array_equal(np.asarray(decode_image(tiff_of_pages(pages))), SAMPLES)


def written(samples: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


STACK = np.random.default_rng(1).integers(0, 256, (12, 20, 30)).astype(np.uint8)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (written(STACK, photometric="minisblack"), "a TIFF of 12 frames"),
        (written(STACK, ome=True, metadata={"axes": "ZYX"}, photometric="minisblack"), "an OME-TIFF of 12 planes"),
        (written(STACK, imagej=True), "an ImageJ TIFF of 12 frames"),
        (tiff_of_pages([page(SAMPLES), page(SAMPLES)]), "a TIFF of 2 frames"),
        (tiff_of_pages([page(SAMPLES), page(SAMPLES), page(SMALL, 1)]), "a TIFF of 2 frames"),
    ],
    ids=["plain", "OME", "ImageJ", "two", "two and a thumbnail"],
)
def test_several_images_are_refused_with_their_number_and_the_advice_works(
    data: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ImageTooLarge, match=f"found {words}, expected one frame") as caught:
        decode_image(data)
    assert caught.value.code == "image_too_many_frames"
    advice = str(caught.value).partition("for example ")[2]
    (tmp_path / "stack.tif").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    exec(advice, {"tifffile": tifffile, "path": "stack.tif"})
    first = tifffile.imread(io.BytesIO(data), key=0)
    found = np.asarray(decode_image((tmp_path / "frame.tif").read_bytes()))
    assert np.array_equal(found, np.broadcast_to(first if first.ndim == 3 else first[..., None], found.shape))


def test_an_imagej_stack_of_one_page_says_how_many_images_it_has() -> None:
    tags = {270: (2, b"ImageJ=1.53t\nimages=7\nslices=7\n\0")}
    with pytest.raises(ImageTooLarge, match="an ImageJ TIFF of 7 frames"):
        decode_image(simple(SAMPLES, 8, 2, more=tags))


@pytest.mark.parametrize(
    "tags",
    [{50706: (1, b"\1\4\0\0")}, {262: (3, [32803]), 258: (3, [8])}, {254: (4, [1]), 330: (4, [8, 8])}],
    ids=["DNG", "filter array", "preview with the raw pixels below it"],
)
def test_a_raw_photo_is_named(tags: Any) -> None:
    with pytest.raises(ImageInvalid, match=r"a raw photo .* Fix: export a TIFF or JPEG"):
        decode_image(simple(SAMPLES, 8, 2, more=tags))


@pytest.mark.parametrize(
    ("bits", "kind", "words"),
    [
        (32, 3, "a TIFF of floating-point 32-bit samples"),
        (16, 3, "a TIFF of floating-point 16-bit samples"),
        (64, 3, "a TIFF of floating-point 64-bit samples"),
        (8, 2, "a TIFF of signed 8-bit samples"),
        (16, 2, "a TIFF of signed 16-bit samples"),
        (32, 2, "a TIFF of signed 32-bit samples"),
        (32, 1, "a TIFF of 32-bit samples"),
        *((bits, 1, f"a TIFF of {bits}-bit samples") for bits in range(17, 32)),
        (64, 6, "a TIFF of complex 64-bit samples"),
    ],
)
def test_samples_without_a_rule_are_refused_by_name_and_the_advice_works(bits: int, kind: int, words: str) -> None:
    data = tiff(tags_of(SAMPLES, bits, 2) | {339: (3, [kind] * 3)}, [bytes(20 * 30 * 3 * 8)])
    with pytest.raises(ImageInvalid, match=f"found {words}, expected unsigned samples of 1 to 16 bits") as caught:
        decode_image(data)
    assert caught.value.code == "unsupported_color_mode"
    advice = str(caught.value).partition("for example ")[2]
    image: np.ndarray = (SAMPLES.astype(np.int16) * 100 - 5000).astype(
        {3: np.float32, 6: np.complex64}.get(kind, np.int16)
    )
    if kind == 3:
        image[0, 0, 0] = np.nan  # no value was measured
    array = eval(advice, {"numpy": np, "image": image})
    seen = np.asarray(decode_image(simple(array, 8, 2)))
    assert (seen.min(), seen.max()) == (0, 255)


@pytest.mark.parametrize(
    ("channels", "photometric", "extra", "words"),
    [
        (2, 1, [0], "2 channels as grey"),
        (5, 1, [0, 0, 0, 0], "5 channels as grey"),
        (3, 1, [], "3 channels as grey"),
        (5, 2, [0, 0], "5 channels as RGB"),
        (5, 5, [2], "5 channels as CMYK"),
        (2, 3, [2], "2 channels as a palette"),
        (2, 2, [], "2 channels as RGB"),
    ],
)
def test_channels_without_a_colour_are_refused_with_their_number(
    channels: int, photometric: int, extra: list[int], words: str
) -> None:
    samples = np.zeros((4, 5, channels), np.uint8)
    more = {338: (3, extra)} if extra else {}
    with pytest.raises(ImageInvalid, match=f"a TIFF of {words}.* Fix: save the channels"):
        decode_image(simple(samples, 8, photometric, more=more))


@pytest.mark.parametrize("photometric", [1, 2, 3])
def test_a_tag_about_samples_that_are_not_there_costs_nothing(photometric: int) -> None:
    samples = SAMPLES if photometric == 2 else SAMPLES[..., :1]
    palette: Any = {320: (3, [value * 257 for value in range(256)] * 3)}
    more: Any = {338: (3, [2])} | (palette if photometric == 3 else {})
    found = np.asarray(decode_image(simple(samples, 8, photometric, more=more)))
    assert np.array_equal(found, np.broadcast_to(samples, found.shape))


def test_inks_of_an_inverted_range_are_refused() -> None:
    inks = np.zeros((4, 5, 4), np.uint8)
    assert decode_image(simple(inks, 8, 5, more={336: (3, [0, 255])})).getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(ImageInvalid, match=r"CMYK inks with a range of their own.* Fix: save the image as an RGB"):
        decode_image(simple(inks, 8, 5, more={336: (3, [255, 0])}))


def test_a_tag_that_is_missing_is_named() -> None:
    tags = {tag: value for tag, value in tags_of(SAMPLES, 8, 2).items() if tag != 262}
    with pytest.raises(ImageInvalid, match=r"without PhotometricInterpretation \(262\).* Fix: save the image again"):
        decode_image(tiff(tags, [packed(SAMPLES, 8)]))


def test_two_depths_in_one_image_are_refused() -> None:
    with pytest.raises(ImageInvalid, match="different depths"):
        decode_image(simple(SAMPLES, 8, 2, more={258: (3, [5, 6, 5])}))


@pytest.mark.parametrize("lost", ["offset", "length", "strip"])
def test_a_sparse_tiff_is_refused_and_not_filled_with_black(lost: str) -> None:
    parts = [packed(SAMPLES[:10], 8), packed(SAMPLES[10:], 8)]
    tags: Any = tags_of(SAMPLES, 8, 2) | {278: (3, [10])}
    tags |= {"offset": {273: (4, [8, 0])}, "length": {279: (4, [900, 0])}, "strip": {273: (4, [8])}}[lost]
    with pytest.raises(ImageInvalid, match="without the data of 1 of its 2") as caught:
        decode_image(tiff(tags, parts))
    assert caught.value.code == "image_truncated"


def test_sizes_are_checked_before_any_pixel_is_read() -> None:
    wide = simple(SAMPLES, 8, 2, more={256: (4, [30_000]), 257: (4, [30_000])})
    with pytest.raises(ImageTooLarge, match="30000 x 30000"):
        decode_image(wide)
    tags: Any = tags_of(SAMPLES, 8, 2) | {322: (4, [100_000]), 323: (4, [100_000])}
    with pytest.raises(ImageTooLarge, match="100000 x 100000"):
        decode_image(tiff(tags, [bytes(100)], tiled=True))
    tags = tags_of(np.zeros((1, 1, 3)), 8, 2) | {256: (4, [5000]), 257: (4, [5000]), 322: (4, [1]), 323: (4, [1])}
    with pytest.raises(ImageTooLarge, match="strips or tiles"):
        decode_image(tiff(tags, [bytes(3)], tiled=True))
    with pytest.raises(ImageTooLarge):
        decode_image(simple(SAMPLES, 8, 2), ImageLimits(max_side=29))


def test_pages_in_a_circle_and_pages_beyond_the_end_are_refused() -> None:
    data = bytearray(simple(SAMPLES, 8, 2))
    (start,) = struct.unpack_from("<I", data, 4)
    for pointer in (start, len(data) + 100):
        data[-4:] = struct.pack("<I", pointer)
        with pytest.raises(ImageInvalid, match="in a loop"):
            decode_image(bytes(data))


def test_every_cut_of_a_tiff_is_refused() -> None:
    data = simple(SAMPLES, 8, 2)
    for end in [*range(8, 400, 7), *range(len(data) - 120, len(data) - 4)]:
        with pytest.raises(ImageError):
            decode_image(data[:end])


def test_one_odd_tag_of_any_kind_costs_neither_the_pixels_nor_the_orientation() -> None:
    """A thousand files, each with one tag that pixels do not need, of a random type, count and value."""
    rng = random.Random(0)
    needed = {*range(254, 260), 262, 266, *range(273, 275), *range(277, 280), 284, 292, 317, 320, *range(322, 326)}
    needed |= {330, 332, 338, 339, 347, 530, 532, 50706}
    others = [tag for tag in (*range(250, 700), *range(33000, 35000), *range(50000, 51000)) if tag not in needed]
    expected = np.rot90(SAMPLES, -1)
    for _ in range(1000):
        data = bytearray(simple(SAMPLES, 8, 2, more={274: (3, [6]), rng.choice(others): (4, [0])}))
        (start,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            if struct.unpack_from("<H", data, at)[0] in others:
                odd = rng.choice((0, 1, 7, 65_535, 2**31, 2**32 - 1, rng.randrange(2**32)))
                struct.pack_into("<HII", data, at + 2, rng.choice((0, 1, 2, 5, 10, 12, 99, 65_535)), odd, odd)
        assert np.array_equal(np.asarray(decode_image(bytes(data))), expected)
