"""TIFF: every combination of depth, layout, colour and compression is read right or refused by its name.

The tags come from `tiff_page`, and the codecs from zlib, lzma, Pillow and imagecodecs. Each codec gets a limit for what
it may write, so that no file can take more memory than its pixels. Between tags and codecs nothing is guessed: strips
or tiles that are missing, cut or of another size are refused and never filled.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from lensmount_adapters.errors import ImageInvalid
from lensmount_adapters.inputs.limits import ImageLimits
from lensmount_adapters.inputs.orientation import upright
from lensmount_adapters.inputs.pixels import (
    COMPLEX_TO_8_BITS,
    FLOATS_TO_8_BITS,
    TO_8_BITS,
    image_of,
    refused_samples,
    to_8_bits,
)
from lensmount_adapters.inputs.tiff_codecs import NAMES, NOT_READ, decode_segment
from lensmount_adapters.inputs.tiff_page import TiffPage, read_page

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _CIELAB = 0, 1, 2, 3, 5, 6, 8
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _CIELAB: 3}
_PHOTOMETRICS = {4: "a mask", 9: "ICC L*a*b* colours", 10: "ITU L*a*b* colours", 32844: "LogL", 32845: "LogLuv"}
_SAMPLE_FORMATS = {2: "signed", 3: "floating-point", 5: "complex whole-number", 6: "complex"}
_SCALED = {2: TO_8_BITS, 3: FLOATS_TO_8_BITS, 5: COMPLEX_TO_8_BITS, 6: COMPLEX_TO_8_BITS}
_YCBCR_NUMBERS = {529: [0.299, 0.587, 0.114], 532: [0.0, 255.0, 128.0, 255.0, 128.0, 255.0]}
_PREMULTIPLIED = 1
_SAVE_RGB = "save the image as an RGB or grey TIFF, or as PNG"
_SPLIT = "save the channels that should be seen as one grey or RGB image"


def decode_tiff(data: bytes, limits: ImageLimits) -> Image.Image:
    """Decode a TIFF of one image to an upright RGB image. Raises ImageError; codecs may raise anything else."""
    page = read_page(data, limits)
    bits = _checked_bits(page)
    extra = _checked_extra(page)
    samples = _assembled(data, page, bits, limits)
    return upright(_coloured(page, samples, bits, extra), page.orientation)


def _checked_bits(page: TiffPage) -> int:
    """Return the depth that all samples share. Raises ImageInvalid for samples without a rule to become 8 bits."""
    depths = set(page.many.get(258, (1,)))
    formats = set(page.many.get(339, (1,)))
    if len(depths) > 1 or len(formats) > 1:
        raise refused_samples(
            f"a TIFF whose samples have different depths ({', '.join(map(str, sorted(depths)[:8]))} bits)"
        )
    bits, kind = depths.pop(), formats.pop()
    if kind in _SAMPLE_FORMATS:
        raise refused_samples(f"a TIFF of {_SAMPLE_FORMATS[kind]} {bits}-bit samples", scaled=_SCALED[kind])
    if kind not in (1, 4) or not 1 <= bits <= 16:
        raise refused_samples(
            f"a TIFF of {bits}-bit samples" + (f" of the format {kind}" if kind not in (1, 4) else "")
        )
    return bits


def _checked_extra(page: TiffPage) -> int | None:
    """Return the kind of the alpha channel (1 premultiplied, 2 not), or None without one. Raises ImageInvalid."""
    photometric = page.one(262)
    if photometric not in _COLOURS:
        found = _PHOTOMETRICS.get(photometric, f"the colour space {photometric}")
        raise refused_samples(f"a TIFF of {found}", _SAVE_RGB)
    extra = page.samples - _COLOURS[photometric]
    kinds = page.many.get(338, ())
    if extra == 0:
        return None
    if extra == 1 and photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        kind = kinds[0] if kinds else (2 if photometric == _RGB else 0)  # without the tag, a fourth sample is alpha
        if kind in (1, 2):
            return kind
        if photometric == _RGB:
            return None  # the fourth sample has no meaning
    space = {_RGB: "RGB", _CMYK: "CMYK", _PALETTE: "a palette", _YCBCR: "YCbCr", _CIELAB: "L*a*b*"}
    raise refused_samples(f"a TIFF of {page.samples} channels as {space.get(photometric, 'grey')}", _SPLIT)


def _assembled(data: bytes, page: TiffPage, bits: int, limits: ImageLimits) -> np.ndarray:
    """Decode all strips or tiles into [height, width, samples], uint8 or uint16, still of `bits` bits."""
    compression = page.one(259)
    if compression not in NAMES:
        name = f"{NOT_READ[compression]} (method {compression})" if compression in NOT_READ else f"method {compression}"
        raise refused_samples(f"a TIFF compressed by {name}", "save it with LZW or without compression")
    segments = page.segments(data)
    _check_lengths(data, segments, page)
    rows, columns = page.segment_size
    across, down = -(-page.width // columns), -(-page.height // rows)
    depth = 1 if page.is_planar else page.samples
    samples = np.empty((page.height, page.width, page.samples), np.uint8 if bits <= 8 else np.uint16)
    for index, (offset, length) in enumerate(segments):
        plane, place = divmod(index, across * down)
        top, left = place // across * rows, place % across * columns
        height = rows if page.is_tiled else min(rows, page.height - top)
        part = decode_segment(data[offset : offset + length], page, bits, (height, columns, depth), limits)
        target = samples[top : top + height, left : left + columns, plane : plane + depth]
        target[...] = part[: target.shape[0], : target.shape[1]]
    return samples


def _check_lengths(data: bytes, segments: list[tuple[int, int]], page: TiffPage) -> None:
    if any(offset + length > len(data) for offset, length in segments) and page.one(259) != 1:
        raise ImageInvalid(
            "found a TIFF whose pixels end beyond the file. Fix: send the whole file", code="image_truncated"
        )
    if page.one(259) != 1 and sum(length for _, length in segments) > 4 * len(data):
        raise ImageInvalid("found a TIFF whose strips or tiles share their data. Fix: save the image again")


def _coloured(page: TiffPage, samples: np.ndarray, bits: int, extra: int | None) -> Image.Image:
    photometric = page.one(262)
    if photometric == _PALETTE:
        return image_of(_palette(page, bits)[samples[..., 0]])
    pixels = to_8_bits(samples, bits)
    if photometric == _WHITE_IS_ZERO:
        pixels = np.concatenate((255 - pixels[..., :1], pixels[..., 1:]), axis=2)
    if photometric == _RGB and extra is None:
        pixels = pixels[..., :3]
    if photometric == _YCBCR and (page.one(259) != 7 or page.is_planar):  # otherwise the JPEG decoder has done it
        _check_ycbcr(page)
        return Image.fromarray(np.ascontiguousarray(pixels), "YCbCr").convert("RGB")
    if photometric in (_CMYK, _CIELAB):
        return _four_inks_or_lab(page, pixels, bits)
    return image_of(pixels, is_premultiplied=extra == _PREMULTIPLIED)


def _palette(page: TiffPage, bits: int) -> np.ndarray:
    """Return the colours, uint8 [2^bits, 3]. Some writers put 8-bit values into the 16-bit table."""
    colours: np.ndarray = np.array(page.many.get(320, ()), np.uint32)
    if colours.size != 3 << bits:
        raise ImageInvalid(
            f"found a TIFF palette of {colours.size} values, expected {3 << bits}. Fix: {_SAVE_RGB}",
        )
    colours = colours & 0xFFFF
    is_8_bit = colours.max() < 256
    return np.ascontiguousarray(to_8_bits(colours, 8 if is_8_bit else 16).reshape(3, -1).T)


def _check_ycbcr(page: TiffPage) -> None:
    """Raise ImageInvalid for YCbCr of other coefficients, ranges or subsampling than those that Pillow converts."""
    if page.many.get(530, (2, 2)) != (1, 1):
        raise refused_samples("a TIFF of subsampled YCbCr without JPEG compression", _SAVE_RGB)
    for tag, usual in _YCBCR_NUMBERS.items():
        numbers = page.many.get(tag, ())
        found = [over / max(under, 1) for over, under in zip(numbers[::2], numbers[1::2], strict=True)] or usual
        if not np.allclose(found, usual, atol=1e-3):
            raise refused_samples("a TIFF of YCbCr with coefficients or ranges of its own", _SAVE_RGB)


def _four_inks_or_lab(page: TiffPage, pixels: np.ndarray, bits: int) -> Image.Image:
    height, width = pixels.shape[:2]
    if page.one(262) == _CMYK:
        if page.one(332) != 1:
            raise refused_samples("a TIFF of inks that are not CMYK", _SAVE_RGB)
        if page.many.get(336, (0, 1))[0] != 0:
            raise refused_samples("a TIFF of CMYK inks with a range of their own", _SAVE_RGB)
        return Image.frombytes("CMYK", (width, height), pixels.tobytes()).convert("RGB")
    if bits != 8:
        raise refused_samples(f"a TIFF of L*a*b* colours of {bits} bits", _SAVE_RGB)
    return Image.frombytes("LAB", (width, height), pixels.tobytes(), "raw", "LAB").convert("RGB")
