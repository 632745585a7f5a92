"""From the bytes of an image file to the backbone's input, with the same pixels in training and in serving.

The rules:

- PNG, JPEG, WebP and TIFF are read. The format is recognised by content, not by file name.
- An image has one frame. A phone's JPEG with a preview is read as its first frame.
- EXIF orientation is applied.
- Grey is repeated into three channels. 16-bit grey is scaled to 8 bits by value * 255 / 65535, rounded (Pillow alone
  would clip it at 255).
- Transparent pixels are blended over white. CMYK is converted to RGB. ICC profiles are ignored.
- 32-bit and floating-point pixels are refused.
- A file whose pixel data is incomplete is refused (Pillow alone fills a short PNG with black).
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lensmount_adapters.errors import ImageError, ImageInvalid, ImageTooLarge, ImageUnsupported
from lensmount_adapters.inputs.rules import Preprocessing

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Limits of an image, checked against its header before its pixels are read."""

    max_image_bytes: int = 32 * 2**20
    max_pixels: int = 40_000_000
    max_side: int = 16_384


def decode_image(data: bytes, limits: ImageLimits | None = None) -> Image.Image:
    """Decode the bytes of an image file to an RGB image.

    Raises ImageUnsupported (another format), ImageTooLarge (over a limit), ImageInvalid (empty, truncated, damaged).
    """
    limits = limits or ImageLimits()
    if not data:
        raise ImageInvalid("found an empty body, expected the bytes of an image", code="image_empty")
    if len(data) > limits.max_image_bytes:
        raise ImageTooLarge(f"found {len(data)} bytes, expected at most {limits.max_image_bytes}")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image, limits)
            if image.format == "PNG":
                _check_png_is_complete(data, image.size)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageUnsupported(
            "found bytes of another format, expected a PNG, JPEG, WebP or TIFF image. Fix: convert the file to PNG"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(
            f"found more pixels than the limit, expected at most {limits.max_pixels}. Fix: scale the image down"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins may raise anything on hostile bytes; none of it may become a 500
        truncated = "truncated" in str(error).lower() or isinstance(error, EOFError)
        raise ImageInvalid(
            f"the decoder failed with {type(error).__name__}: {str(error)[:120]}. Fix: check that the file is complete",
            code="image_truncated" if truncated else "image_invalid",
        ) from error


def preprocess(image: Image.Image, rule: Preprocessing) -> Tensor:
    """Apply an adapter's preprocessing rule to get the backbone's input, float32 [3, height, width]."""
    height, width = rule.size
    lines = resize(image, rule).tobytes("raw", "RGB;L")  # for each row: its reds, then its greens, then its blues
    pixels = np.frombuffer(lines, np.uint8).reshape(height, 3, width).transpose(1, 0, 2)  # [3, H, W]
    x = pixels.astype(np.float32, order="C")
    x /= np.float32(255)  # in place and not folded into one multiplication, for the same bits as in training
    x -= np.array(rule.mean, np.float32).reshape(3, 1, 1)
    x /= np.array(rule.std, np.float32).reshape(3, 1, 1)
    return torch.from_numpy(x)


def resize(image: Image.Image, rule: Preprocessing) -> Image.Image:
    """Apply the geometric half of the rule: the result is an RGB image of exactly `rule.size`."""
    height, width = rule.size
    resample = Image.Resampling.BICUBIC if rule.interpolation == "bicubic" else Image.Resampling.BILINEAR
    if rule.resize == "squash":
        return image.resize((width, height), resample)
    if rule.resize == "pad":
        return ImageOps.pad(image, (width, height), resample, color=(0, 0, 0))
    return image.resize((width, height), resample, box=_centre_box(image.size, rule))


def inner_box(size: tuple[int, int], rule: Preprocessing) -> tuple[int, int, int, int]:
    """Return where an image of `size` (width, height) lies in the input: left, top, right, bottom.

    With "squash" it fills the whole input, with "pad" a part of it. Raises ValueError for "crop", whose input shows
    only a part of the image.
    """
    height, width = rule.size
    if rule.resize == "crop":
        raise ValueError("found resize crop, expected squash or pad, which keep the whole image")
    if rule.resize == "squash":
        return 0, 0, width, height
    inner_width, inner_height = ImageOps.contain(Image.new("1", size), (width, height), Image.Resampling.NEAREST).size
    left, top = round((width - inner_width) * 0.5), round((height - inner_height) * 0.5)  # as ImageOps.pad
    return left, top, left + inner_width, top + inner_height


def orient(pixels: Tensor, orientation: int) -> Tensor:
    """Turn a square image [..., H, W] into one of its eight orientations.

    `orientation % 4` is the number of quarter turns; from 4 on the image is also mirrored.
    """
    turned = torch.rot90(pixels, orientation % 4, (-2, -1))
    return turned.flip(-1) if orientation >= 4 else turned


def turn_back(maps: Tensor, orientation: int) -> Tensor:
    """Undo what `orient` did to [..., H, W]."""
    unflipped = maps.flip(-1) if orientation >= 4 else maps
    return torch.rot90(unflipped, -(orientation % 4), (-2, -1))


def _centre_box(size: tuple[int, int], rule: Preprocessing) -> tuple[float, float, float, float]:
    """Return the centred box of the target's shape.

    It is cut from the source before scaling, so that an extreme shape costs no memory.
    """
    height, width = rule.size
    scale = rule.crop_fraction * min(size[0] / width, size[1] / height)
    box_width, box_height = scale * width, scale * height
    left, top = (size[0] - box_width) / 2, (size[1] - box_height) / 2
    return left, top, left + box_width, top + box_height


def _check_size(image: Image.Image, limits: ImageLimits) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageInvalid(f"found an image of {width} x {height}, expected at least 1 x 1")
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise ImageTooLarge(
            f"found an image of {width} x {height}, expected at most {limits.max_pixels} pixels "
            f"and {limits.max_side} per side. Fix: scale it down before sending"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # phones append a preview to a JPEG
        raise ImageTooLarge(f"found {frames} frames, expected one. Fix: send one frame", code="image_too_many_frames")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        grey = np.array(image, dtype=np.uint32)
        return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageInvalid(
            f"found 32-bit pixels (mode {image.mode}), expected 8 or 16 bits. Fix: save as 8-bit RGB",
            code="unsupported_color_mode",
        )
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _check_png_is_complete(data: bytes, size: tuple[int, int]) -> None:
    """Refuse a PNG whose compressed data has fewer bytes than its rows need (PNG specification, sections 9 and 10)."""
    header = data[16:29]  # IHDR: width, height, depth, colour, compression, filter, interlace
    bits = header[8] * _PNG_CHANNELS.get(header[9], 0)
    width, height = size
    passes = _ADAM7 if header[12] else ((0, 0, 1, 1),)
    expected = 0
    for x, y, step_x, step_y in passes:
        columns, rows = -(-(width - x) // step_x), -(-(height - y) // step_y)
        if columns > 0 and rows > 0:
            expected += rows * (1 + (columns * bits + 7) // 8)
    inflate = zlib.decompressobj()
    inflated = 0
    for chunk in _png_idat(data):
        pending = chunk
        while pending and inflated <= expected:
            inflated += len(inflate.decompress(pending, 1 << 20))
            pending = inflate.unconsumed_tail
    if inflated < expected:
        raise ImageInvalid(
            f"found a PNG that ends after {inflated} of {expected} bytes of pixels. Fix: send the whole file",
            code="image_truncated",
        )


def _png_idat(data: bytes) -> list[bytes]:
    """Return the bodies of the IDAT chunks. Their checksums are verified here, because Pillow ignores them."""
    chunks: list[bytes] = []
    position = 8
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if kind == b"IDAT":
            body, checksum = (
                data[position + 8 : position + 8 + length],
                data[position + 8 + length : position + 12 + length],
            )
            if len(checksum) == 4 and zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
                raise ImageInvalid("found a PNG whose data fails its checksum. Fix: send the file again")
            chunks.append(body)
        position += 12 + length
    return chunks


IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".jfif")
