"""Masks as people have them, several hundred: each is read as it was drawn, or refused with a fix that works.

The truth is the drawn array, or Pillow's greys compared with 128; nothing is compared with our own output.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.masks.file import Frame, read_mask

tifffile: Any = pytest.importorskip("tifffile", reason="the extra 'volumes' is not installed")

HEIGHT, WIDTH, FINE = 48, 64, 4
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
FROM_CENTRE = np.hypot(ROWS - 20, COLUMNS - 24)
DISC = FROM_CENTRE < 15
BORDER = abs(FROM_CENTRE - 15) < 2.5  # some pixels wide, as annotators draw it
IDS = np.zeros((HEIGHT, WIDTH), np.int64)
for _number in range(24):
    _row, _column = 11 * (_number // 6), 10 * (_number % 6)
    IDS[_row + 2 : _row + 9, _column + 2 : _column + 9] = _number + 1
FINE_ROWS, FINE_COLUMNS = np.mgrid[: HEIGHT * FINE, : WIDTH * FINE] / FINE
FINE_DISC = Image.fromarray(((np.hypot(FINE_ROWS - 20, FINE_COLUMNS - 24) < 15) * 255).astype(np.uint8))
WHITE = (DISC * 255).astype(np.uint8)
SOFT = FINE_DISC.resize((WIDTH, HEIGHT), Image.Resampling.BOX)


def saved(image: Image.Image | np.ndarray, suffix: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, suffix, **options)
    return file.getvalue()


def tiff(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **({"photometric": "minisblack"} | options))
    return file.getvalue()


def grey_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))


def shape_in(data: bytes, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    return np.asarray(read_mask(data, Frame(size, 1), 1).labels[0])


def refused(data: bytes, labels: int = 1) -> str:
    with pytest.raises(DatasetError) as caught:
        read_mask(data, Frame((WIDTH, HEIGHT), 1), labels)
    assert "Fix: " in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("quality", [40, 50, 60, 70, 80, 85, 90, 95, 97, 100])
@pytest.mark.parametrize("suffix", ["JPEG", "WEBP"])
def test_a_lossy_mask_and_its_copy_as_png_are_the_drawn_object(suffix: str, quality: int, mode: str) -> None:
    lossy = saved(Image.fromarray(WHITE).convert(mode), suffix, quality=quality)

    assert np.array_equal(shape_in(lossy), DISC)
    for again in (saved(grey_of(lossy)), tiff(grey_of(lossy)), saved(grey_of(lossy).astype(np.uint16) * 257)):
        assert np.array_equal(shape_in(again), DISC)


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.5, 2, 3.3])
@pytest.mark.parametrize("method", list(Image.Resampling)[1:])
def test_a_resized_mask_is_divided_where_pillow_has_half_of_white(method: Image.Resampling, factor: float) -> None:
    size = (int(WIDTH * factor), int(HEIGHT * factor))
    grey = np.asarray(Image.fromarray(WHITE).resize(size, method))
    fraction = np.asarray(Image.fromarray(DISC.astype(np.float32)).resize(size, method))

    for data in (saved(grey), saved(Image.fromarray(grey).convert("RGBA")), saved(grey.astype(np.uint16) * 257)):
        assert np.array_equal(shape_in(data, size), grey >= 128)
    if fraction.min() < 0 or fraction.max() > 1:
        with pytest.raises(DatasetError, match=r"as resizing leaves them, .*Fix: .*values\.clip\(0, 1\)"):
            shape_in(tiff(fraction), size)
    assert np.array_equal(shape_in(tiff(fraction.clip(0, 1)), size), fraction >= 0.5)
    ones = np.asarray(Image.fromarray(DISC.astype(np.uint8)).resize(size, method))
    assert np.array_equal(shape_in(saved(ones), size), ones > 0)


@pytest.mark.parametrize("as_saved", ["PNG", "TIFF", "BMP", "GIF", "P", "RGB", "LA", "RGBA"])
def test_a_soft_edge_is_divided_at_half_in_every_format(as_saved: str) -> None:
    is_suffix = as_saved in ("PNG", "TIFF", "BMP", "GIF")
    data = saved(SOFT, as_saved) if is_suffix else saved(SOFT.convert(as_saved))

    assert np.array_equal(shape_in(data), np.asarray(SOFT) >= 128)
    assert read_mask(data, Frame((WIDTH, HEIGHT), 1), 1).thresholded


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
def test_instances_of_every_type_are_objects(dtype: str) -> None:
    for options in ({}, {"compression": "zlib"}, {"tile": (16, 16)}, {"byteorder": ">"}, {"bigtiff": True}):
        assert np.array_equal(shape_in(tiff(IDS.astype(dtype), **options)), IDS > 0)
    if dtype != "i1":
        assert np.array_equal(shape_in(tiff((DISC * 255).astype(dtype))), DISC)
    if not dtype.startswith("u"):
        assert "replace negative values by 0" in refused(tiff(np.where(DISC, 1, -1).astype(dtype)))


@pytest.mark.parametrize("seed", range(20))
def test_instances_with_random_numbers_are_objects(seed: int) -> None:
    random = np.random.default_rng(seed)
    for most, dtype in ((255, np.uint8), (65535, np.uint16)):
        numbers = np.concatenate([[0], random.choice(np.arange(1, most + 1), 24, replace=False)])
        assert np.array_equal(shape_in(saved(numbers[IDS].astype(dtype))), IDS > 0)


@pytest.mark.parametrize("last", [30, 40, 100, 254, 255])
def test_instances_counted_up_to_white_are_objects_and_not_divided(last: int) -> None:
    numbers = IDS.copy()
    numbers[numbers == 24] = last
    if last == 255:
        numbers[numbers == 23] = 200
    mask = read_mask(saved(numbers.astype(np.uint8)), Frame((WIDTH, HEIGHT), 1), 1)

    assert np.array_equal(mask.labels[0], IDS > 0)
    assert not mask.thresholded


@pytest.mark.parametrize("unknown", [127, 128])
def test_a_trimap_is_refused_and_both_advices_work(unknown: int) -> None:
    values = np.where(BORDER, unknown, WHITE).astype(np.uint8)
    assert f"Fix: replace {unknown} by 0 or by 255" in refused(saved(values))

    assert np.array_equal(shape_in(saved(np.where(BORDER, 0, values).astype(np.uint8))), DISC & ~BORDER)
    assert np.array_equal(shape_in(saved(np.where(BORDER, 255, values).astype(np.uint8))), DISC | BORDER)


@pytest.mark.parametrize("numbers", [(1,), (15,), (1, 2), (1, 2, 3, 20), (33,)], ids=str)
@pytest.mark.parametrize("palette", [False, True], ids=["grey", "palette"])
def test_255_next_to_the_numbers_of_classes_counts_as_nothing(numbers: tuple[int, ...], palette: bool) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    for place, number in enumerate(numbers):
        values[DISC & (COLUMNS % len(numbers) * 0 + COLUMNS // 8 % len(numbers) == place)] = number
    values[BORDER] = 255

    def image(values: np.ndarray) -> bytes:
        drawn = Image.fromarray(values.astype(np.uint8))
        if palette:
            drawn.putpalette(bytes(range(256)) + bytes(range(255, -1, -1)) + bytes(256))
            drawn.putpalette([0, 0, 0, *[128, 0, 7] * 254, 224, 224, 192])
        return saved(drawn)

    frame = Frame((WIDTH, HEIGHT), 1)
    for labels in {1, max(2, *numbers)}:
        mask = read_mask(image(values), frame, labels)
        expected = [DISC & ~BORDER] if labels == 1 else [values == number for number in range(1, labels + 1)]
        assert np.array_equal(mask.labels, np.stack(expected))
        assert mask.ignored is not None
        assert np.array_equal(mask.ignored, BORDER)
    assert np.array_equal(shape_in(image(np.where(BORDER, 0, values))), DISC & ~BORDER)
    assert np.array_equal(shape_in(image(np.where(BORDER, 200, values))), DISC | BORDER)


def test_254_next_to_small_numbers_is_refused_and_each_advice_works() -> None:
    values = np.where(BORDER, 254, np.where(DISC, 2, 0)).astype(np.uint8)
    assert "mark pixels without a class" in refused(saved(values))

    ignored = read_mask(saved(np.where(BORDER, 255, values).astype(np.uint8)), Frame((WIDTH, HEIGHT), 1), 1)
    assert np.array_equal(ignored.labels[0], DISC & ~BORDER)
    assert ignored.ignored is not None
    assert np.array_equal(ignored.ignored, BORDER)
    assert np.array_equal(shape_in(saved(np.where(BORDER, 0, values).astype(np.uint8))), DISC & ~BORDER)
    assert np.array_equal(shape_in(saved(np.where(BORDER, 200, values).astype(np.uint8))), DISC | BORDER)


def test_255_alone_is_an_object_of_one_label_and_refused_for_several() -> None:
    mask = read_mask(saved(WHITE), Frame((WIDTH, HEIGHT), 1), 1)
    assert np.array_equal(mask.labels[0], DISC)
    assert mask.ignored is None
    assert "replace it by 0 or by the number of its label, or put class_dict.csv" in refused(saved(WHITE), 2)


def test_a_palette_whose_black_is_another_index_than_0_is_refused_and_the_advice_works() -> None:
    for background, of_object in ((3, 7), (1, 0), (200, 2)):
        image = Image.fromarray(np.where(DISC, of_object, background).astype(np.uint8))
        colours = np.full((256, 3), 255, np.uint8)
        colours[background] = 0
        image.putpalette(colours.tobytes())

        assert f"black is index {background}" in refused(saved(image))
        assert np.array_equal(shape_in(saved(image.convert("L"))), DISC)  # as Pillow shows it, black is background


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_a_tiff_with_more_channels_than_are_read_is_refused_and_the_advice_works(channels: int) -> None:
    planes = np.stack([np.where(DISC, 0 if part else 1, part).astype(np.uint8) for part in range(channels)], -1)

    assert "channel" in refused(tiff(planes, planarconfig="contig"), 2)
    assert np.array_equal(shape_in(saved(planes[..., 0])), DISC)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"\x93NUMPY\1\0" + bytes(90), "a numpy file"),
        (b"MATLAB 5.0 MAT-file, Platform" + bytes(100), "a MATLAB file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>404</html>", "an HTML page"),
        (b"8BPS\0\1" + bytes(30), "a Photoshop file"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "a HEIC photo"),
        (bytes(128) + b"DICM" + bytes(50), "a DICOM file"),
        (b"v/1\x01" + bytes(30), "an OpenEXR image"),
        (b"P5\n8 6\n255\n" + bytes(48), "a Netpbm image"),
        (b"%PDF-1.4\n", "a PDF"),
        (b"0 0.5 0.5 0.1 0.2\n" * 9, "text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_no_mask_is_refused_by_what_it_is(data: bytes, found: str) -> None:
    assert refused(data).startswith(f"found {found}")


@pytest.mark.parametrize("size", [(65, 48), (64, 49), (63, 48), (64, 47), (48, 64), (128, 96), (32, 24)], ids=str)
def test_a_mask_of_another_size_is_refused_with_both_sizes(size: tuple[int, int]) -> None:
    message = refused(saved(Image.new("L", size)))

    assert f"found {size[0]} x {size[1]}" in message
    assert f"expected one channel of {WIDTH} x {HEIGHT}" in message


@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"])
def test_a_file_that_was_cut_is_refused(suffix: str) -> None:
    random = np.random.default_rng(0).integers(0, 2, (HEIGHT, WIDTH)).astype(np.uint8) * 255
    data = saved(random, suffix, **({"lossless": True} if suffix == "WEBP" else {}))

    refused(data[: len(data) // 2])
