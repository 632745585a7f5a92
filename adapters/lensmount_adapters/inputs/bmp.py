"""BMP: samples of 16 and 32 bits by the masks of the file and the rule for depths, everything else by Pillow.

Pillow rounds 5 and 6 bits down, leaves out the alpha of 16-bit pixels and knows a few masks only.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lensmount_adapters.errors import ImageInvalid
from lensmount_adapters.inputs.limits import ImageLimits
from lensmount_adapters.inputs.pixels import image_of, refused_samples, to_8_bits, to_rgb

_PLAIN, _BIT_FIELDS, _ALPHA_BIT_FIELDS = 0, 3, 6
_BY_PILLOW = {(0, 1), (0, 4), (0, 8), (0, 24), (1, 8), (2, 4)}  # compression and bits; 1 and 2 are run lengths
_USUAL_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}
_EMBEDDED = {4: "with a JPEG inside", 5: "with a PNG inside", 11: "of CMYK", 12: "of CMYK", 13: "of CMYK"}
_SAVE_PNG = "save it as PNG"


@dataclass(frozen=True, slots=True)
class _Header:
    start: int  # of the pixels
    size: int  # of the second header
    width: int
    height: int
    is_top_down: bool
    bits: int
    compression: int


def decode_bmp(data: bytes, limits: ImageLimits) -> Image.Image:
    """Decode a BMP to an RGB image. Raises ImageError; Pillow may raise anything else."""
    header = _header(data)
    limits.check_size(header.width, header.height)
    if header.bits in (16, 32) and header.compression in (_PLAIN, _BIT_FIELDS, _ALPHA_BIT_FIELDS):
        return _by_masks(data, header)
    if (header.compression, header.bits) not in _BY_PILLOW:
        kind = _EMBEDDED.get(header.compression, f"of {header.bits} bits and compression {header.compression}")
        raise refused_samples(f"a BMP {kind}", _SAVE_PNG)
    with Image.open(io.BytesIO(data), formats=("BMP",)) as opened:
        limits.check_size(*opened.size)
        opened.load()
        return to_rgb(opened)


def _header(data: bytes) -> _Header:
    if len(data) < 26:
        raise ImageInvalid("found a BMP that ends in its header. Fix: send the whole file", code="image_truncated")
    start, size = struct.unpack_from("<II", data, 10)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<4H", data, 18)
        return _Header(start, size, width, height, False, bits, 0)
    if size < 40 or len(data) < 54:
        raise ImageInvalid(f"found a BMP whose header has {size} bytes, expected 12, 40 or more. Fix: {_SAVE_PNG}")
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    return _Header(start, size, width, abs(height), height < 0, bits, compression)


def _by_masks(data: bytes, header: _Header) -> Image.Image:
    width, height, depth = header.width, header.height, header.bits // 8
    row = -(-width * depth // 4) * 4  # each row begins at a multiple of four bytes
    needed = row * (height - 1) + width * depth
    raw = data[header.start : header.start + row * height]
    if len(raw) < needed:
        raise ImageInvalid(
            f"found {len(raw)} of {needed} bytes of pixels in a BMP. Fix: send the whole file", code="image_truncated"
        )
    rows = np.frombuffer(raw.ljust(row * height, b"\0"), np.uint8).reshape(height, row)[:, : width * depth]
    values = np.ascontiguousarray(rows).view(f"<u{depth}")
    if not header.is_top_down:
        values = values[::-1]
    masks = [mask for mask in _masks(data, header) if mask]
    return image_of(np.stack([_field(values, mask) for mask in masks], axis=2))


def _masks(data: bytes, header: _Header) -> tuple[int, ...]:
    """Return the masks of red, green, blue and alpha; 0 without alpha. Raises ImageInvalid for masks with gaps."""
    masks = _USUAL_MASKS[header.bits]
    if header.compression != _PLAIN:
        has_alpha = header.size >= 56 or header.compression == _ALPHA_BIT_FIELDS
        masks = struct.unpack_from("<4I" if has_alpha else "<3I", data.ljust(70, b"\0"), 54)
    for place, mask in enumerate(masks):
        field = mask // (mask & -mask) if mask else 0
        if field & (field + 1) or field >= 1 << 16 or mask >> header.bits or (mask == 0 and place < 3):
            raise refused_samples("a BMP whose colour masks are not runs of 1 to 16 bits", _SAVE_PNG)
    return masks


def _field(values: np.ndarray, mask: int) -> np.ndarray:
    shift = (mask & -mask).bit_length() - 1
    bits = (mask >> shift).bit_length()
    return to_8_bits(((values & np.array(mask, values.dtype)) >> shift).astype(np.uint16), bits)
