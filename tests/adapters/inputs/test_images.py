"""From bytes to pixels: every format, mode and orientation gives the pixels that its rule says."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters import ImageLimits, decode_image
from lensmount_adapters.errors import ImageTooLarge, ImageUnsupported
from lensmount_adapters.inputs.images import stated_pixels


def colours(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """Soft random colours: every pixel counts, and JPEG does not change them much."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def save(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


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


def test_a_big_jpeg_costs_its_pixels_once(grown_mib: Callable[[Callable[[], object]], float]) -> None:
    data = save(colours(3000, 2000), "JPEG")

    def decode() -> None:
        assert decode_image(data).size == (3000, 2000)

    assert grown_mib(decode) < 1.5 * 3000 * 2000 * 4 / 2**20  # Pillow keeps four bytes per pixel


def test_the_content_decides_and_bytes_after_the_image_are_ignored() -> None:
    assert decode_image(save(colours(), "JPEG") + b"PK\x03\x04 a zip archive").size == (64, 48)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (5000, 2)])
def test_small_and_narrow_images_are_accepted(size: tuple[int, int]) -> None:
    assert decode_image(save(Image.new("RGB", size))).size == size


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


def test_limits_are_those_of_the_caller() -> None:
    data = save(colours())
    with pytest.raises(ImageTooLarge, match=f"found {len(data)} bytes"):
        decode_image(data, ImageLimits(max_image_bytes=len(data) - 1))
    with pytest.raises(ImageTooLarge, match="64 x 48"):
        decode_image(data, ImageLimits(max_pixels=64 * 48 - 1))
    with pytest.raises(ImageTooLarge, match="63 per side"):
        decode_image(data, ImageLimits(max_side=63))
    assert decode_image(data, ImageLimits(len(data), 64 * 48, 64)).size == (64, 48)


def test_a_phones_jpeg_with_a_preview_behind_it_is_read_as_its_first_image() -> None:
    first = Image.effect_mandelbrot((64, 48), (-2, -1.5, 1, 1.5), 100).convert("RGB")
    alone, with_preview = io.BytesIO(), io.BytesIO()
    first.save(alone, "JPEG")
    first.save(with_preview, "MPO", save_all=True, append_images=[Image.new("RGB", (16, 12), "red")])

    assert decode_image(with_preview.getvalue()).tobytes() == decode_image(alone.getvalue()).tobytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF"])
def test_the_stated_pixels_are_those_of_the_decoded_image_and_need_no_decoding(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = save(colours(70, 50), kind)
    width, height = decode_image(data).size
    read: list[object] = []
    monkeypatch.setattr(Image.Image, "load", lambda self: read.append(self))

    assert stated_pixels(data) == width * height == 3500
    assert read == []


def test_the_stated_pixels_of_a_cut_file_are_known_and_those_of_a_refused_one_are_not() -> None:
    data = save(colours(70, 50))

    assert stated_pixels(data[:60]) == 3500
    with pytest.raises(ImageTooLarge, match="found an image of 70 x 50"):
        stated_pixels(data, ImageLimits(max_pixels=3499))
    with pytest.raises(ImageUnsupported):
        stated_pixels(b"hello")
