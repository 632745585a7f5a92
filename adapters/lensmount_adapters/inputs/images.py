"""From the bytes of an image file to the backbone's input, with the same pixels in training and in serving.

The rules:

- PNG, JPEG, WebP, TIFF, BMP, GIF, JPEG 2000 and AVIF are read, HEIC with the extra `heif`, DICOM with the extra
  `dicom`. The format is recognised by content, not by file name.
- An image has one frame. A phone's JPEG with a preview is read as its first frame. Reduced copies and masks inside a
  TIFF are not frames.
- The orientation tag is applied. All other metadata is passed over, however odd it is, and so are ICC profiles.
- Grey is repeated into three channels. A sample of b bits is scaled to 8 bits by value * 255 / (2^b - 1), rounded: 16
  bits are divided by 65535 and 12 bits by 4095.
- Transparent pixels are blended over white. CMYK and L*a*b* are converted to RGB.
- Signed, floating-point and 32-bit samples are refused.
- A file whose pixel data is incomplete is refused (Pillow alone fills a short PNG with black).
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lensmount_adapters.errors import ImageError, ImageInvalid, ImageTooLarge, ImageUnsupported
from lensmount_adapters.inputs import formats
from lensmount_adapters.inputs.avif import decode_avif
from lensmount_adapters.inputs.bmp import decode_bmp
from lensmount_adapters.inputs.dicom import decode_dicom
from lensmount_adapters.inputs.formats import FORMATS as FORMATS
from lensmount_adapters.inputs.formats import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from lensmount_adapters.inputs.gif import ENOUGH, count_frames
from lensmount_adapters.inputs.heif import decode_heif
from lensmount_adapters.inputs.jpeg2000 import decode_jpeg2000
from lensmount_adapters.inputs.jpeg_header import (
    JPEG_KINDS,
    check_jpeg_is_whole,
    jpeg_frame,
    metadata_of,
    with_stated_height,
    without_metadata,
)
from lensmount_adapters.inputs.limits import ImageLimits as ImageLimits
from lensmount_adapters.inputs.limits import Stated, UpTo, above_pillow, check_frames
from lensmount_adapters.inputs.orientation import orientation_of, upright
from lensmount_adapters.inputs.pixels import image_of, refused_samples, to_8_bits, to_rgb
from lensmount_adapters.inputs.png import decode_png, png_orientation
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.inputs.tiff import decode_tiff
from lensmount_adapters.inputs.tiff_page import read_page

logging.getLogger("imagecodecs").setLevel(logging.ERROR)  # its warnings are about bytes that a client sent


def decode_image(data: bytes, limits: ImageLimits | None = None) -> Image.Image:
    """Decode the bytes of an image file to an RGB image.

    Raises ImageUnsupported (another format), ImageTooLarge (over a limit), ImageInvalid (empty, truncated, damaged).
    """
    limits = limits or ImageLimits()
    if not data:
        raise ImageInvalid(
            "found an empty body, expected the bytes of an image. Fix: send the file", code="image_empty"
        )
    if len(data) > limits.max_image_bytes:
        raise ImageTooLarge(
            f"found {len(data)} bytes, expected at most {limits.max_image_bytes}. Fix: save the image smaller, "
            "or raise max_image_bytes (train --max-image-bytes; LENSMOUNT_MAX_IMAGE_BYTES of servers and workers)"
        )
    found = formats.recognise(data)
    if found.name is None:
        raise ImageUnsupported(f"found {found.words}, expected {formats.EXPECTED}. Fix: {found.way_out}")
    try:
        return _DECODERS[found.name](data, limits)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageInvalid(f"found {found.words} whose header is damaged. Fix: send the file again") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(f"{above_pillow(error, limits.max_pixels)}. Fix: scale the image down") from error
    except ImportError as error:
        raise ImageUnsupported(
            f"found {found.words}, which this installation does not read, because {error.name} is missing. "
            "Fix: pip install 'lensmount[torch]' where images are decoded"
        ) from error
    except Exception as error:  # decoders may raise anything on hostile bytes; none of it may become a 500
        truncated = "truncated" in str(error).lower() or isinstance(error, EOFError)
        raise ImageInvalid(
            f"the decoder of {found.words} failed with {type(error).__name__}: {str(error)[:120]}. "
            "Fix: check that the file is complete",
            code="image_truncated" if truncated else "image_invalid",
        ) from error


def stated_pixels(data: bytes, limits: ImageLimits | None = None) -> int:
    """Return how many pixels the header of an image file states, without decoding them.

    Raises what `decode_image` raises for a file that it refuses by its header.
    """
    try:
        image = decode_image(data, UpTo.of(limits or ImageLimits(), -1))
    except Stated as found:
        return found.pixels
    return image.width * image.height


def stated_orientation(data: bytes) -> int:
    """Return the orientation, 1 to 8, by which `decode_image` turns the file; 1 if it has none or cannot be read."""
    name = formats.recognise(data).name
    try:
        if name == formats.PNG:
            return png_orientation(data)
        if name == formats.JPEG:
            return orientation_of(*metadata_of(data))
        if name == formats.TIFF:
            return read_page(data, ImageLimits()).orientation
        if name in (formats.WEBP, formats.BMP, formats.GIF):
            with Image.open(io.BytesIO(data), formats=(name,)) as opened:
                return orientation_of(opened.info.get("exif"), opened.info.get("xmp"))
    except MemoryError:
        raise
    except Exception:  # the decoder says what is wrong with the file
        return 1
    return 1


def without_private_tags(data: bytes, image: Image.Image) -> bytes:
    """Return bytes to keep of a file and its decoded image. A DICOM file becomes a PNG of the same pixels."""
    if formats.recognise(data).name != formats.DICOM:
        return data
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


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


def shown_box(size: tuple[int, int], rule: Preprocessing) -> tuple[float, float, float, float]:
    """Return which part of an image of `size` (width, height) the input shows: left, top, right, bottom in its pixels.

    With "crop" it is a part of the image. With "pad" it is larger than the image by the border.
    """
    if rule.resize == "crop":
        return _centre_box(size, rule)
    height, width = rule.size
    left, top, right, bottom = inner_box(size, rule)
    across, down = size[0] / (right - left), size[1] / (bottom - top)  # pixels of the image for each of the input
    return -left * across, -top * down, (width - left) * across, (height - top) * down


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


# The formats that Pillow reads by itself


def _decode_jpeg(data: bytes, limits: ImageLimits) -> Image.Image:
    check_jpeg_is_whole(data)
    try:
        return _by_pillow(data, limits, "JPEG")
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise
    except Exception:
        data = with_stated_height(data)
        kind, bits, height, width, components = jpeg_frame(data)
        limits.check_size(width, height)
        _check_jpeg_is_read(kind, bits, components)
        if bits != 8:  # Pillow does not read it
            import imagecodecs

            samples = np.asarray(imagecodecs.jpeg8_decode(data))
            image = image_of(to_8_bits(samples, bits))
        else:
            image = _by_pillow(without_metadata(data), limits, "JPEG")
        return upright(image, orientation_of(*metadata_of(data)))


def _check_jpeg_is_read(kind: int, bits: int, components: int) -> None:
    """Raise ImageInvalid for a kind of JPEG that no decoder here reads."""
    if kind not in JPEG_KINDS:
        raise refused_samples(f"a hierarchical or arithmetic lossless JPEG (SOF{kind - 0xC0})", "save it as PNG")
    is_lossless = kind == 0xC3
    if components not in (1, 3, 4) or not (bits == 8 or (components != 4 and (bits == 12 or is_lossless))):
        raise refused_samples(f"a JPEG of {components} channels of {bits} bits", "save it as PNG")


def _decode_webp(data: bytes, limits: ImageLimits) -> Image.Image:
    """What the frame of an animation does not cover is transparent, also where the file says that nothing is.

    libwebp composes it so. Pillow keeps the alpha channel only if the flag of the header is set, and leaves black.
    """
    if data[12:16] == b"VP8X" and len(data) > 20 and data[20] & _WEBP_ANIMATION:
        data = data[:20] + bytes([data[20] | _WEBP_ALPHA]) + data[21:]
    return _by_pillow(data, limits, "WEBP")


_WEBP_ANIMATION, _WEBP_ALPHA = 0x02, 0x10  # flags of the first byte of VP8X


def _decode_gif(data: bytes, limits: ImageLimits) -> Image.Image:
    frames = count_frames(data)
    number = f"{frames} frames" if frames < ENOUGH else f"{ENOUGH} or more frames"
    check_frames(frames, f"an animated GIF of {number}", "save the one frame that counts as PNG")
    with Image.open(io.BytesIO(data), formats=("GIF",)) as opened:
        limits.check_size(*opened.size)
        opened.load()
        frame: tuple[int, int, int, int] = opened.dispose_extent  # type: ignore[attr-defined]  # a GIF has it
        image = to_rgb(opened)
    if frame == (0, 0, *image.size):
        return image
    canvas = Image.new("RGB", image.size, "white")  # what the frame does not cover is transparent
    canvas.paste(image.crop(frame), frame)
    return canvas


def _by_pillow(data: bytes, limits: ImageLimits, name: str) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=(name,)) as opened:
        limits.check_size(*opened.size)
        frames = getattr(opened, "n_frames", 1) if name == "WEBP" else 1  # phones append a preview to a JPEG
        check_frames(frames, f"an animated WebP of {frames} frames", "save the one frame that counts as PNG")
        opened.load()
        orientation = orientation_of(opened.info.get("exif"), opened.info.get("xmp"))
        image = to_rgb(opened)
        image.info.clear()  # nothing may turn it a second time
        return upright(image, orientation)


_DECODERS: dict[str, Callable[[bytes, ImageLimits], Image.Image]] = {
    formats.PNG: decode_png,
    formats.JPEG: _decode_jpeg,
    formats.WEBP: _decode_webp,
    formats.TIFF: decode_tiff,
    formats.BMP: decode_bmp,
    formats.GIF: _decode_gif,
    formats.JPEG2000: decode_jpeg2000,
    formats.AVIF: decode_avif,
    formats.HEIF: decode_heif,
    formats.DICOM: decode_dicom,
}
