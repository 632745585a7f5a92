"""One strip or tile of a TIFF: from its bytes to samples, never writing more than the segment holds."""

from __future__ import annotations

import io
import lzma
import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from lensmount_adapters.errors import ImageInvalid
from lensmount_adapters.inputs.jpeg2000 import jpeg2000_samples
from lensmount_adapters.inputs.jpeg_header import JPEG_KINDS, check_jpeg_is_whole, jpeg_frame
from lensmount_adapters.inputs.limits import ImageLimits
from lensmount_adapters.inputs.pixels import refused_samples
from lensmount_adapters.inputs.tiff_page import TiffPage

NAMES = {
    **{1: "none", 2: "CCITT RLE", 3: "CCITT G3", 4: "CCITT G4", 5: "LZW", 7: "JPEG", 8: "deflate", 32946: "deflate"},
    **{32773: "PackBits", 34925: "LZMA", 50000: "Zstandard", 34926: "Zstandard", 50001: "WebP", 34927: "WebP"},
    **{33005: "JPEG 2000", 34712: "JPEG 2000"},
}
NOT_READ = {
    **{6: "old-style JPEG", 34887: "LERC", 50002: "JPEG XL", 52546: "JPEG XL", 22610: "JPEG XR", 34934: "JPEG XR"},
    **{34933: "PNG", 32771: "CCITT RLE of words", 32766: "NeXT", 32809: "ThunderScan", 34676: "SGILog"},
    **{34677: "SGILog24", 33003: "JPEG 2000 of YCbCr", 32908: "PIXAR film", 32909: "PixarLog", 33007: "ALT JPEG"},
}
_NONE, _JPEG, _WEBP, _JPEG2000 = 1, 7, (50001, 34927), (33005, 34712)
_CCITT = (2, 3, 4)
_SLACK = 512  # bytes that a writer may add after a segment's pixels
_TAILS = (b"", b"\xff", b"\xaa", b"\x55")  # ends of fax data, in which a decoder sees different lines
_SAVE_AGAIN = "save it with LZW or without compression"

Shape = tuple[int, int, int]


def decode_segment(segment: bytes, page: TiffPage, bits: int, shape: Shape, limits: ImageLimits) -> np.ndarray:
    """Decode a strip or tile to uint8 or uint16 of `shape` (rows, columns, samples). Raises ImageInvalid."""
    compression = page.one(259)
    if page.one(317) != 1 and compression not in (5, 8, 32946, 34925, 50000, 34926):
        raise refused_samples(f"a TIFF with a predictor and compressed by {NAMES[compression]}", _SAVE_AGAIN)
    if compression in _CCITT:
        return _ccitt(_in_order(segment, page), page, bits, shape)
    if compression == _JPEG:
        return _jpeg(segment, page, bits, shape)
    if compression in _WEBP:
        return _webp(segment, bits, shape)
    if compression in _JPEG2000:
        samples, depth = jpeg2000_samples(segment, limits, shape[:2])
        if depth != bits:
            raise ImageInvalid(f"found JPEG 2000 samples of {depth} bits in a TIFF of {bits}. Fix: {_SAVE_AGAIN}")
        return _fitting(samples, shape)
    row_bytes = (shape[1] * shape[2] * bits + 7) // 8
    expected = row_bytes * shape[0]
    raw = _decompressed(_in_order(segment, page), compression, expected)
    if len(raw) < expected:
        raise ImageInvalid(
            f"found a TIFF strip or tile of {len(raw)} of {expected} bytes. Fix: send the whole file",
            code="image_truncated",
        )
    return _unpredicted(_unpacked(raw[:expected], page, bits, shape, row_bytes), page, bits)


def _in_order(segment: bytes, page: TiffPage) -> bytes:
    """Undo FillOrder 2, which stores the bits of each byte from the lowest to the highest."""
    return segment.translate(_REVERSED) if page.one(266) == 2 else segment


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _decompressed(segment: bytes, compression: int, expected: int) -> bytes | bytearray | memoryview:
    if compression == _NONE:
        return segment
    if compression in (8, 32946):
        return zlib.decompressobj().decompress(segment, expected)
    if compression == 34925:
        return lzma.LZMADecompressor(memlimit=1 << 27).decompress(segment, expected)
    import imagecodecs

    decode = {5: imagecodecs.lzw_decode, 32773: imagecodecs.packbits_decode}.get(compression, imagecodecs.zstd_decode)
    decoded: bytes | bytearray | memoryview = decode(segment, out=bytearray(expected + _SLACK))
    return decoded


def _unpacked(
    raw: bytes | bytearray | memoryview, page: TiffPage, bits: int, shape: Shape, row_bytes: int
) -> np.ndarray:
    """Turn bytes into samples. Each row begins on a byte, whatever the depth."""
    if bits == 8:
        return np.frombuffer(raw, np.uint8).reshape(shape)
    if bits == 16:
        return np.frombuffer(raw, page.order + "u2").astype(np.uint16).reshape(shape)
    if bits < 8 and 8 % bits == 0:
        packed = np.frombuffer(raw, np.uint8).reshape(shape[0], row_bytes, 1)
        shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
        samples = (packed >> shifts) & np.uint8((1 << bits) - 1)
        return samples.reshape(shape[0], -1)[:, : shape[1] * shape[2]].reshape(shape)
    import imagecodecs

    dtype = np.uint8 if bits < 8 else np.uint16
    samples = imagecodecs.packints_decode(bytes(raw), dtype, bits, runlen=shape[1] * shape[2])
    return np.asarray(samples).reshape(shape)


def _unpredicted(samples: np.ndarray, page: TiffPage, bits: int) -> np.ndarray:
    if page.one(317) == 1:
        return samples
    if page.one(317) != 2 or bits not in (8, 16):
        raise refused_samples(f"a TIFF of {bits}-bit samples with the predictor {page.one(317)}", _SAVE_AGAIN)
    return np.cumsum(samples, axis=1, dtype=samples.dtype)


def _fitting(samples: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the samples of an image codec as `shape`. At the lower and right edge, a segment may be too small."""
    samples = samples[..., None] if samples.ndim == 2 else samples
    if samples.shape[2] != shape[2] or samples.shape[0] < shape[0] or samples.shape[1] < shape[1]:
        raise ImageInvalid(
            f"found a TIFF strip or tile of {' x '.join(map(str, samples.shape))}, expected "
            f"{' x '.join(map(str, shape))} (rows, columns, samples). Fix: {_SAVE_AGAIN}"
        )
    return samples[: shape[0], : shape[1]]


def _ccitt(segment: bytes, page: TiffPage, bits: int, shape: Shape) -> np.ndarray:
    """Decode fax data. Its decoder leaves lines blank that are missing: bytes behind a whole strip change nothing."""
    import imagecodecs

    if bits != 1 or shape[2] != 1:
        raise refused_samples(f"a CCITT TIFF of {bits}-bit samples", _SAVE_AGAIN)
    rows, columns, _ = shape
    decode: dict[int, Callable[[bytes], Any]] = {
        2: lambda data: imagecodecs.ccittrle_decode(data, rows, columns),
        3: lambda data: imagecodecs.ccittfax3_decode(data, rows, columns, t4options=page.one(292)),
        4: lambda data: imagecodecs.ccittfax4_decode(data, rows, columns),
    }
    lines, *others = (np.asarray(decode[page.one(259)](segment + tail * (columns + 16))) for tail in _TAILS)
    if not all(np.array_equal(lines, other) for other in others):
        raise ImageInvalid("found a TIFF whose fax data is cut. Fix: send the whole file", code="image_truncated")
    return _fitting(lines, shape)


def _jpeg(segment: bytes, page: TiffPage, bits: int, shape: Shape) -> np.ndarray:
    import imagecodecs

    kind, depth, height, width, samples = jpeg_frame(segment)
    if kind not in JPEG_KINDS or depth != bits or bits not in (8, 12):
        raise refused_samples(f"a JPEG of {depth} bits in a TIFF of {bits}-bit samples", _SAVE_AGAIN)
    if samples != shape[2] or height * width > 4 * math.prod(shape[:2]):
        raise ImageInvalid(
            f"found a JPEG of {height} x {width} x {samples} in a TIFF strip or tile of "
            f"{' x '.join(map(str, shape))}. Fix: {_SAVE_AGAIN}"
        )
    check_jpeg_is_whole(segment)
    photometric = page.one(262)
    spaces = {2: ("RGB", "RGB"), 6: ("YCBCR", "RGB"), 5: ("CMYK", "CMYK")}
    if samples == 1:
        colours: tuple[str | None, str | None] = (None, None)
    elif photometric in spaces and samples == (4 if photometric == 5 else 3):
        colours = spaces[photometric]
        if photometric == 2 and b"JFIF\0" in segment[:32]:
            colours = (None, "RGB")  # the colour space is then that of the JPEG itself
    else:
        raise refused_samples(f"a JPEG TIFF of {samples} channels", _SAVE_AGAIN)
    tables = page.texts.get(347)
    pixels = imagecodecs.jpeg8_decode(segment, tables=tables, colorspace=colours[0], outcolorspace=colours[1])
    return _fitting(np.asarray(pixels), shape)


def _webp(segment: bytes, bits: int, shape: Shape) -> np.ndarray:
    with Image.open(io.BytesIO(segment), formats=("WEBP",)) as image:
        if bits != 8 or image.width * image.height > 4 * math.prod(shape[:2]):
            raise ImageInvalid(f"found a WebP strip or tile of another size in a TIFF. Fix: {_SAVE_AGAIN}")
        return _fitting(np.asarray(image.convert("RGBA" if shape[2] == 4 else "RGB")), shape)
