"""One mask file of every kind is read as the drawn array says, or refused with a way out that works."""

from __future__ import annotations

import io
import re
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.masks.file import Frame, frame_of, read_mask, turn

tifffile: Any = pytest.importorskip("tifffile", reason="the extra 'volumes' is not installed")

HEIGHT, WIDTH = 24, 32
SHAPE = np.zeros((HEIGHT, WIDTH), bool)  # an L: no turn or reflection gives the same array
SHAPE[4:20, 6:10] = True
SHAPE[16:20, 6:22] = True
LABELS = np.zeros((HEIGHT, WIDTH), np.uint8)  # label 1, and label 2 in its foot
LABELS[SHAPE] = 1
LABELS[16:20, 12:22] = 2


def saved(image: Image.Image | np.ndarray, suffix: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file, written by Pillow."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, suffix, **options)
    return file.getvalue()


def grey_png(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 1, 2, 4, 8 or 16 bits, written byte by byte as the PNG specification says."""
    height, width = values.shape
    places = values.astype(np.uint32)[..., None] >> np.arange(bits - 1, -1, -1, dtype=np.uint32) & 1
    rows = np.packbits(places.astype(np.uint8).reshape(height, width * bits), axis=1)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def tiff(values: np.ndarray, **options: Any) -> bytes:
    """A TIFF, written by tifffile."""
    file = io.BytesIO()
    tifffile.imwrite(file, values, **({"photometric": "minisblack"} | options))
    return file.getvalue()


def with_orientation(image: Image.Image, orientation: int, suffix: str) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return saved(image, suffix, exif=exif)


def stored_for(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels to store so that a reader that follows this EXIF orientation shows `upright` (EXIF 2.3, table 6)."""
    stored: dict[int, np.ndarray] = {
        1: upright,
        2: np.fliplr(upright),
        3: np.rot90(upright, 2),
        4: np.flipud(upright),
        5: np.transpose(upright),
        6: np.rot90(upright, 1),  # shown turned by 90 degrees clockwise
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }
    return stored[orientation]


FRAME = Frame((WIDTH, HEIGHT), 1)
INTEGERS = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64]


def shape_in(data: bytes, frame: Frame = FRAME) -> np.ndarray:
    """The mask of one label, bool [height, width]."""
    masks = read_mask(data, frame, 1).labels
    assert len(masks) == 1
    return np.asarray(masks[0])


def labels_in(data: bytes) -> np.ndarray:
    """The masks of two labels as one array: 0 for background, 1 and 2."""
    first, second = read_mask(data, FRAME, 2).labels
    assert not (first & second).any()
    return np.asarray(first + 2 * second.astype(np.uint8))


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and bool((found == expected).all())


@pytest.mark.parametrize("suffix", ["PNG", "TIFF", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize("value", [1, 255], ids=["0/1", "0/255"])
def test_black_and_object_are_read_from_every_format_that_keeps_values(suffix: str, value: int) -> None:
    options = {"lossless": True} if suffix == "WEBP" else {}

    assert same(shape_in(saved((SHAPE * value).astype(np.uint8), suffix, **options)), SHAPE)


@pytest.mark.parametrize("suffix", ["PNG", "TIFF", "BMP"])
def test_one_bit_masks_are_read(suffix: str) -> None:
    assert same(shape_in(saved(Image.fromarray(SHAPE), suffix)), SHAPE)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_png_of_few_bits_keeps_its_values_unscaled(bits: int) -> None:
    assert same(shape_in(grey_png(SHAPE, bits)), SHAPE)
    if bits > 1:
        assert same(labels_in(grey_png(LABELS, bits)), LABELS)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_whole_numbers_of_every_size_and_byte_order_are_read_from_tiff(dtype: type, byteorder: str) -> None:
    assert same(labels_in(tiff(LABELS.astype(dtype), byteorder=byteorder)), LABELS)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_read_as_labels_if_they_are_whole_and_divided_at_half_if_not(dtype: type) -> None:
    assert same(labels_in(tiff(LABELS.astype(dtype))), LABELS)
    assert same(shape_in(tiff((SHAPE * 255).astype(dtype))), SHAPE)
    soft = read_mask(tiff(np.where(SHAPE, 0.8, 0.25).astype(dtype)), FRAME, 1)
    assert same(soft.labels[0], SHAPE)
    assert soft.thresholded


@pytest.mark.parametrize(
    "ids",
    [np.arange(1, 4), np.array([200, 300, 65535]), np.array([10, 128, 255])],
    ids=["small", "16 bits", "spread over 8 bits"],
)
@pytest.mark.parametrize("suffix", ["PNG", "TIFF"])
def test_numbers_of_instances_are_one_label_and_refused_for_several(ids: np.ndarray, suffix: str) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint16)
    for number, value in enumerate(ids):
        values[2 + 6 * number : 6 + 6 * number, 3:9] = value
    data = saved(values, suffix)

    assert same(shape_in(data), values > 0)
    with pytest.raises(DatasetError, match=r"Fix: .*give one label"):
        labels_in(data)


def test_250_instances_in_8_bits_are_all_objects() -> None:
    values = np.kron(np.arange(250, dtype=np.uint8).reshape(10, 25), np.ones((3, 3), np.uint8))

    assert same(shape_in(saved(values), Frame((75, 30), 1)), values > 0)


def test_ids_above_2_to_the_31_are_objects() -> None:
    assert same(shape_in(tiff(SHAPE.astype(np.uint32) * np.uint32(4_000_000_000))), SHAPE)


@pytest.mark.parametrize("suffix", ["PNG", "TIFF", "BMP", "GIF"])
def test_the_indices_of_a_palette_are_the_labels_whatever_its_colours(suffix: str) -> None:
    image = Image.fromarray(LABELS)
    image.putpalette([0, 0, 0, 128, 0, 0, 255, 255, 255])

    assert same(labels_in(saved(image, suffix)), LABELS)
    assert same(shape_in(saved(image, suffix, transparency=0)), SHAPE)
    assert not shape_in(saved(image.point(lambda _: 0), suffix, transparency=0)).any()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_palette_of_few_bits_has_its_indices(bits: int) -> None:
    values = SHAPE.astype(np.uint8) if bits == 1 else LABELS
    image = Image.fromarray(values)
    image.putpalette([90, 90, 250, 0, 200, 0, 7, 7, 7])

    assert same(shape_in(saved(image, bits=bits)), SHAPE)


def test_a_palette_whose_index_0_is_white_and_whose_object_is_black_is_refused_with_a_fix() -> None:
    image = Image.fromarray(SHAPE.astype(np.uint8))
    image.putpalette([255, 255, 255, 0, 0, 0])

    with pytest.raises(DatasetError, match=r"index 0, the background, is #ffffff and black is index 1.*Fix: save"):
        shape_in(saved(image))
    assert same(shape_in(saved(np.array(image))), SHAPE)  # the advice: grey, with 0 as background


@pytest.mark.parametrize("quality", [30, 50, 75, 95])
@pytest.mark.parametrize("suffix", ["JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_ringing_of_a_jpeg_is_not_object(quality: int, suffix: str, mode: str) -> None:
    drawn = np.zeros((64, 64), bool)
    drawn[20:40, 22:42] = True  # 400 pixels, of no whole block of 8 x 8
    image = Image.fromarray((drawn * 255).astype(np.uint8)).convert(mode)

    mask = read_mask(saved(image, suffix, quality=quality), Frame((64, 64), 1), 1)

    assert mask.labels.sum() == 400
    assert same(mask.labels[0], drawn)
    assert mask.thresholded


def test_a_soft_border_in_a_png_is_divided_at_half() -> None:
    drawn = np.zeros((64, 64), np.uint8)
    drawn[18:50, 18:50] = 255
    jpeg = Image.open(io.BytesIO(saved(drawn, "JPEG", quality=60)))
    resized = Image.fromarray(drawn).resize((100, 100), Image.Resampling.BICUBIC)

    again = read_mask(saved(jpeg), Frame((64, 64), 1), 1)
    assert same(again.labels[0], drawn > 0)
    assert again.thresholded
    area = read_mask(saved(resized), Frame((100, 100), 1), 1).labels.sum()
    assert abs(area - 50 * 50) <= 100  # half a pixel along each of four sides of 50


@pytest.mark.parametrize("values", [SHAPE * 1, SHAPE * 127, LABELS * 120], ids=["0/1", "0/127", "three greys"])
def test_a_jpeg_of_other_values_than_black_and_white_is_refused_and_a_png_of_it_is_read(values: np.ndarray) -> None:
    with pytest.raises(DatasetError, match=r"found a JPEG with .* Fix: export it as PNG"):
        shape_in(saved(values.astype(np.uint8), "JPEG", quality=60))

    assert same(shape_in(saved(values.astype(np.uint8))), SHAPE)


def test_a_jpeg_of_several_labels_is_refused() -> None:
    with pytest.raises(DatasetError, match="Fix: export the masks as PNG"):
        labels_in(saved(LABELS, "JPEG"))


@pytest.mark.parametrize("labels", [1, 2])
def test_a_black_jpeg_has_no_objects(labels: int) -> None:
    assert not read_mask(saved(np.zeros((HEIGHT, WIDTH), np.uint8), "JPEG"), FRAME, labels).labels.any()


@pytest.mark.parametrize("suffix", ["TIFF", "GIF", "PNG", "WEBP"])
def test_a_file_of_several_pages_is_refused_with_their_number(suffix: str) -> None:
    pages = [Image.fromarray((values * 255).astype(np.uint8)) for values in (SHAPE & False, SHAPE, ~SHAPE)]
    lossless = {"lossless": True} if suffix == "WEBP" else {}
    data = saved(pages[0], suffix, save_all=True, append_images=pages[1:], **lossless)

    with pytest.raises(DatasetError, match=r"of 3 pages, expected a mask of one page\. Fix: save the page"):
        shape_in(data)
    opened = Image.open(io.BytesIO(data))
    opened.seek(1)
    assert same(shape_in(saved(opened.convert("L"))), SHAPE)


def test_a_smaller_copy_of_the_first_page_is_no_second_mask() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(SHAPE.astype(np.uint8), photometric="minisblack")
        writer.write(SHAPE[::4, ::4].astype(np.uint8), photometric="minisblack", subfiletype=1)

    assert same(shape_in(file.getvalue()), SHAPE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_arrays_are_turned_as_pillow_turns_images(orientation: int) -> None:
    image = Image.open(io.BytesIO(with_orientation(Image.fromarray(LABELS), orientation, "PNG")))

    assert same(turn(LABELS, orientation), np.array(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("suffix", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_with_an_orientation_is_shown_upright(orientation: int, suffix: str) -> None:
    stored = Image.fromarray(np.ascontiguousarray(stored_for(SHAPE * np.uint8(255), orientation)))
    data = saved(stored, suffix, exif=_exif(orientation), **({"lossless": True} if suffix == "WEBP" else {}))

    for of_image in (1, orientation):
        assert same(shape_in(data, Frame((WIDTH, HEIGHT), of_image)), SHAPE)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_without_orientation_is_turned_as_its_image_if_only_that_fits(orientation: int) -> None:
    frame = Frame((WIDTH, HEIGHT), orientation)
    stored = np.ascontiguousarray(stored_for(SHAPE * np.uint8(255), orientation))

    assert same(shape_in(saved(stored), frame), SHAPE)
    assert same(shape_in(saved(SHAPE * np.uint8(255)), frame), SHAPE)  # drawn on the upright image


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_mask_that_fits_both_ways_is_refused_and_both_advices_work(orientation: int) -> None:
    square = np.zeros((24, 24), np.uint8)
    square[2:9, 3:20] = 255

    with pytest.raises(DatasetError, match=rf"orientation {orientation}, and .* both .*Fix: save the image"):
        shape_in(saved(square), Frame((24, 24), orientation))
    assert same(shape_in(saved(square), Frame((24, 24), 1)), square > 0)
    blank = np.zeros((24, 24), np.uint8)
    assert not shape_in(saved(blank), Frame((24, 24), orientation)).any()  # equal both ways, so it is read


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_frame_of_an_image_is_its_upright_size(suffix: str, orientation: int) -> None:
    image = Image.new("RGB", (WIDTH, HEIGHT) if orientation < 5 else (HEIGHT, WIDTH), (9, 99, 199))

    assert frame_of(with_orientation(image, orientation, suffix)) == Frame((WIDTH, HEIGHT), orientation)


def test_exif_that_cannot_be_read_costs_neither_frame_nor_mask() -> None:
    broken = b"Exif\0\0" + b"II*\0" + struct.pack("<IHHHI", 8, 3, 274, 3, 1) + b"\xff" * 9
    image = saved(Image.new("RGB", (WIDTH, HEIGHT)), "JPEG", exif=broken)

    found = frame_of(image)
    assert found is not None
    assert sorted(found.size) == [HEIGHT, WIDTH]
    assert same(shape_in(saved(SHAPE * np.uint8(255), exif=broken)), SHAPE)
    assert frame_of(b"no image") is None


def test_a_huge_profile_or_text_costs_neither_frame_nor_mask() -> None:
    texts = PngInfo()
    texts.add_text("notes", "x" * 5_000_000, zip=True)
    texts.add_itxt("XML:com.adobe.xmp", "y" * 5_000_000, zip=True)
    data = saved(SHAPE * np.uint8(255), pnginfo=texts, icc_profile=bytes(5_000_000), exif=_exif(3))

    assert same(shape_in(data), SHAPE[::-1, ::-1])
    assert frame_of(data) == Frame((WIDTH, HEIGHT), 3)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_grey_that_was_saved_with_several_equal_channels_is_read(mode: str) -> None:
    assert same(shape_in(saved(Image.fromarray(SHAPE * np.uint8(255)).convert(mode))), SHAPE)
    assert same(labels_in(saved(Image.fromarray(LABELS).convert(mode))), LABELS)


def refused(data: bytes) -> str:
    with pytest.raises(DatasetError) as caught:
        labels_in(data)
    assert re.search(r"[Ff]ound .*Fix: ", str(caught.value)), caught.value
    return str(caught.value)


def test_colours_are_refused_with_examples_and_the_grey_of_the_advice_is_read() -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 64]], np.uint8)
    for image in (Image.fromarray(colours[LABELS]), Image.fromarray(colours[LABELS]).convert("RGBA")):
        assert "in colour, such as #ff0000, #00ff40" in refused(saved(image))
    values = sum(number * (colours[LABELS] == colour).all(-1).astype(np.uint8) for number, colour in enumerate(colours))
    assert same(labels_in(saved(np.asarray(values, np.uint8))), LABELS)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (lambda: saved(Image.merge("LA", [Image.fromarray(SHAPE * np.uint8(255))] * 2)), "transparent in places"),
        (lambda: saved(Image.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 0))), "transparent in places"),
        (lambda: saved(Image.new("CMYK", (WIDTH, HEIGHT)), "TIFF"), "CMYK colours"),
        (lambda: tiff(np.stack([LABELS.astype(np.uint16)] * 3, -1), photometric="rgb"), "16 bits with several"),
        (lambda: tiff(np.stack([LABELS] * 5), planarconfig="separate"), r"5 channel|5 pages"),
        (lambda: tiff(SHAPE.astype(np.uint8), photometric="miniswhite"), "white is 0"),
        (lambda: tiff(SHAPE.astype(np.float64), photometric="miniswhite"), "white is 0"),
        (lambda: tiff(LABELS.astype(np.int16) - 1), "the value -1"),
        (lambda: tiff(LABELS.astype(np.int8) - 1), "the value -1"),
        (lambda: tiff(np.where(SHAPE, np.nan, 0).astype(np.float32)), "not finite"),
        (lambda: tiff(LABELS.astype(np.float32) * 0.7), "not whole"),
        (lambda: saved(LABELS * 127), "values without a label: 127, 254"),
        (lambda: saved(LABELS * 255), "value 255, expected at most 2"),
        (lambda: saved(LABELS.T.copy()), "24 x 32 .*expected one channel of 32 x 24"),
        (lambda: b"", "empty file"),
        (lambda: saved(LABELS)[:-40], "ends after .* of 792 bytes"),
        (lambda: b"\x93NUMPY" + bytes(99), "a numpy file"),
        (lambda: b'{"shapes": []}', "JSON text"),
        (lambda: b"II*\0" + bytes(30), "TIFF"),
    ],
    ids=[
        "grey in transparency", "all transparent", "CMYK", "16-bit RGB", "five channels", "white is zero",
        "white is zero in float64", "negative 16 bits", "negative 8 bits", "not a number", "fractions",
        "values without labels", "255 for a label", "another size", "empty", "cut", "NumPy", "JSON", "damaged TIFF",
    ],
)  # fmt: skip
def test_what_cannot_be_known_is_refused_by_name_with_a_fix(data: object, found: str) -> None:
    assert callable(data)

    assert re.search(found, refused(data()))


def test_a_mask_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    for side, found in (
        (10_000, "found 10000 x 10000"),
        (60_000, "found an image of 3600000000 pixels, expected at most 40000000"),
    ):
        data = bytearray(grey_png(SHAPE, 8))
        data[16:24] = struct.pack(">II", side, side)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        assert found in refused(bytes(data))
