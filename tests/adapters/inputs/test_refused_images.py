"""A file that is not an image, or is too large, is refused with an ImageError and its code, and with nothing else."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters import decode_image
from lensmount_adapters.errors import ImageError, ImageInvalid, ImageTooLarge, ImageUnsupported


def colours(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """Soft random colours: every pixel counts, and JPEG does not change them much."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def save(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int,
    height: int,
    raw: bytes,
    depth: int = 8,
    colour: int = 0,
    interlace: int = 0,
    before: bytes = b"",
) -> bytes:
    """A PNG written by hand: `raw` are the filtered rows before compression."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def rows(count: int, width: int = 64, height: int = 64) -> bytes:
    """A grey PNG of `height` rows whose data has only `count` of them."""
    return png(width, height, (b"\0" + bytes(range(width))) * count)


def bad_crc(at: bytes) -> bytes:
    data = bytearray(rows(64))
    start = data.index(at) - 4
    length = struct.unpack(">I", data[start : start + 4])[0]
    data[start + 8 + length] ^= 0xFF
    return bytes(data)


def frames(kind: str, **options: Any) -> bytes:
    others = [colours(seed=seed) for seed in range(1, 4)]
    return save(colours(), kind, save_all=True, append_images=others, **options)


def dicom_like() -> bytes:
    return bytes(128) + b"DICM" + bytes(200)


def other_format(kind: str) -> Callable[[], bytes]:
    return lambda: save(colours(), kind)


REFUSED: dict[str, tuple[Callable[[], bytes], type[ImageError], str]] = {
    "nothing": (lambda: b"", ImageInvalid, "image_empty"),
    "text": (lambda: b"hello, this is not an image" * 9, ImageUnsupported, "unsupported_image_format"),
    "random bytes": (lambda: random.Random(0).randbytes(999), ImageUnsupported, "unsupported_image_format"),
    **{
        f"a {kind}": (other_format(kind), ImageUnsupported, "unsupported_image_format")
        for kind in ("EPS", "ICO", "PPM", "TGA", "PDF")
    },
    "an SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', ImageUnsupported, "unsupported_image_format"),
    "a DICOM file without pixels": (dicom_like, ImageInvalid, "image_invalid"),
    "a numpy file": (lambda: b"\x93NUMPY\x01\0" + bytes(120), ImageUnsupported, "unsupported_image_format"),
    "a header of 30,000 x 30,000": (lambda: png(30_000, 30_000, b""), ImageTooLarge, "image_too_large"),
    "a header of 12,000 x 12,000": (lambda: png(12_000, 12_000, b""), ImageTooLarge, "image_too_large"),
    "65,535 x 1": (lambda: save(Image.new("L", (65_535, 1))), ImageTooLarge, "image_too_large"),
    "1 x 65,535": (lambda: save(Image.new("L", (1, 65_535))), ImageTooLarge, "image_too_large"),
    "10 of 64 rows": (lambda: rows(10), ImageInvalid, "image_truncated"),
    "63 of 64 rows": (lambda: rows(63), ImageInvalid, "image_truncated"),
    "a PNG cut in its data": (lambda: save(colours())[:-200], ImageInvalid, "image_truncated"),
    "a JPEG cut": (lambda: save(colours(), "JPEG")[:-100], ImageInvalid, "image_truncated"),
    "a WebP cut": (lambda: save(colours(), "WEBP")[:-50], ImageInvalid, "image_invalid"),
    "a TIFF cut": (lambda: save(colours(), "TIFF")[:4000], ImageInvalid, "image_truncated"),
    "a header with a bad CRC": (lambda: bad_crc(b"IHDR"), ImageInvalid, "image_invalid"),
    "data with a bad CRC": (lambda: bad_crc(b"IDAT"), ImageInvalid, "image_invalid"),
    "floating-point pixels": (
        lambda: save(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"),
        ImageInvalid,
        "unsupported_color_mode",
    ),
    "32-bit pixels": (
        lambda: save(Image.fromarray(np.full((8, 8), 70_000, np.int32)), "TIFF"),
        ImageInvalid,
        "unsupported_color_mode",
    ),
    "an animated PNG": (lambda: frames("PNG"), ImageTooLarge, "image_too_many_frames"),
    "an animated WebP": (lambda: frames("WEBP"), ImageTooLarge, "image_too_many_frames"),
    "a TIFF of four pages": (lambda: frames("TIFF"), ImageTooLarge, "image_too_many_frames"),
}


def test_the_advice_about_an_animated_webp_works() -> None:
    with pytest.raises(ImageTooLarge, match=r"an animated WebP of 4 frames.* Fix: save the one frame .* as PNG"):
        decode_image(frames("WEBP"))

    one = save(Image.open(io.BytesIO(frames("WEBP", lossless=True))))
    assert np.array_equal(np.asarray(decode_image(one)), np.asarray(colours()))


def metadata_bomb() -> bytes:
    """64 grey pixels behind a text chunk that inflates to 50 MB."""
    return png(8, 8, bytes(72), before=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000))))


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bad_image_is_refused_with_its_code(name: str) -> None:
    build, error, code = REFUSED[name]
    with pytest.raises(ImageError) as caught:
        decode_image(build())
    assert type(caught.value) is error
    assert caught.value.code == code


@pytest.mark.parametrize("lost", [1, 2, 10, 50, 100, 300])
def test_a_jpeg_that_lost_its_end_is_refused(lost: int) -> None:
    data = save(colours(200, 160), "JPEG")
    with pytest.raises(ImageInvalid):
        decode_image(data[:-lost])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "build",
    [
        lambda: png(30_000, 30_000, b""),
        lambda: png(100, 100, bytes(100_000_000)),  # far more bytes than its rows need
        lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt", b"k\0v") * 10_000,
        lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0",  # a TIFF whose page chain is a circle
        metadata_bomb,
    ],
    ids=["30,000 x 30,000", "surplus rows", "10,000 chunks", "a circle of pages", "a metadata bomb"],
)
def test_a_bomb_is_refused_or_read_within_a_second(build: Callable[[], bytes]) -> None:
    data = build()
    start = time.perf_counter()
    with contextlib.suppress(ImageError):
        decode_image(data)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF"])
def test_500_mutations_give_an_image_or_an_image_error_and_nothing_else(kind: str) -> None:
    rng = random.Random(kind)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if kind in ("PNG", "JPEG", "WEBP", "TIFF") else {}
    seeds = [save(colours(24, 16), kind, **options), save(colours(24, 16).convert("L"), kind)]
    outcomes = {"image": 0, "refused": 0}
    for _ in range(500):
        mutant = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(mutant))
            mutant[at] = rng.choice((mutant[at] ^ (1 << rng.randrange(8)), 0, 255, rng.randrange(256)))
        if rng.random() < 0.3:
            del mutant[rng.randrange(1, len(mutant)) :]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in production: Pillow warns about repairs
            try:
                assert decode_image(bytes(mutant)).mode == "RGB"
                outcomes["image"] += 1
            except ImageError:
                outcomes["refused"] += 1
    assert outcomes["refused"] > 10
    assert outcomes["image"] > 10 or kind == "PNG"  # a PNG's checksums let no mutant through


def test_500_pngs_of_drawn_headers_and_data_give_an_image_or_an_image_error_and_nothing_else() -> None:
    """Checksums stop nearly every mutant of a PNG, so these get their checksums after they are drawn."""
    rng = random.Random(0)
    outcomes = {"image": 0, "refused": 0}
    for _ in range(500):
        raw = bytes(rng.choice((0, 1, 2, 3, 4, 255)) for _ in range(rng.choice((0, 8, 40, 200, 1000))))
        depth, colour = rng.choice((1, 2, 4, 8, 16, 3)), rng.choice((0, 0, 2, 3, 4, 6, 5))
        before = rng.choice(
            (
                b"" if colour != 3 else chunk(b"PLTE", bytes(768)),
                chunk(b"PLTE", rng.randbytes(12)),
                chunk(b"tRNS", rng.randbytes(6)),
            )
        )
        data = png(rng.choice((1, 7, 8)), rng.choice((1, 5, 9)), raw, depth, colour, rng.choice((0, 1, 2)), before)
        try:
            assert decode_image(data).mode == "RGB"
            outcomes["image"] += 1
        except ImageError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 50, outcomes


@pytest.mark.parametrize("colour", ["L", "RGB"])
@pytest.mark.parametrize("size", [(64, 64), (1, 1), (3, 5), (9, 2), (33, 17)])
def test_interlaced_pngs_are_read_completely(size: tuple[int, int], colour: str) -> None:
    """Pillow cannot write them, so the seven passes are built here, from the PNG specification."""
    image = colours(*size).convert(colour)
    pixels = np.array(image).reshape(size[1], size[0], -1)
    raw = adam7(pixels)
    data = png(*size, raw, colour={"L": 0, "RGB": 2}[colour], interlace=1)
    assert np.array_equal(np.array(decode_image(data)), np.array(image.convert("RGB")))
    last_row = 1 + pixels[-1].size  # of the seventh pass; an image of one row has none there, and loses more
    for lost in (1, last_row):
        with pytest.raises(ImageInvalid) as caught:
            decode_image(png(*size, raw[:-lost], colour={"L": 0, "RGB": 2}[colour], interlace=1))
        assert caught.value.code == "image_truncated"


def adam7(pixels: np.ndarray) -> bytes:
    raw = b""
    starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    for y, x, step_y, step_x in starts:
        part = pixels[y::step_y, x::step_x]
        raw += b"".join(b"\0" + row.tobytes() for row in part if row.size)
    return raw
