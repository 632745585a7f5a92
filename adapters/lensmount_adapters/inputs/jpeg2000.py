"""JPEG 2000 files and codestreams of 8 to 16 bits, with the sizes inside checked before a decoder sees them."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from lensmount_adapters.errors import ImageInvalid, ImageTooLarge
from lensmount_adapters.inputs.limits import ImageLimits
from lensmount_adapters.inputs.pixels import image_of, refused_samples, to_8_bits, to_rgb

_START = b"\xff\x4f\xff\x51"  # start of codestream and its size marker, which the standard puts first
_CMYK = 12
_COLOURS = {_CMYK, 16, 17, 18}  # CMYK, sRGB, grey, YCbCr
_OTHER_COLOURS = {14: "CIELab colours", 20: "e-sRGB colours", 21: "ROMM-RGB colours", 24: "e-sYCC colours"}
_MOST_TILES = 4096
_MOST_CODE_BLOCKS = 1_000_000
_SAVE_PNG = "save it as PNG"


def decode_jpeg2000(data: bytes, limits: ImageLimits) -> Image.Image:
    """Decode a JPEG 2000 image to RGB. Raises ImageError; OpenJPEG may raise anything else."""
    depth, components = _checked(data, limits)
    _check_boxes(data, components)
    if depth == 8:
        with Image.open(io.BytesIO(data), formats=("JPEG2000",)) as image:
            limits.check_size(*image.size)
            image.load()
            return to_rgb(image)
    if components not in (1, 3):
        raise refused_samples(f"a JPEG 2000 image of {components} channels of {depth} bits", _SAVE_PNG)
    samples, _ = jpeg2000_samples(data, limits)
    return image_of(to_8_bits(samples, depth))


def _check_boxes(data: bytes, components: int) -> None:
    """Refuse colours and channels that the decoders show as if they were red, green and blue (T.800, annex I)."""
    if data.startswith(_START):
        return
    boxes: dict[bytes, bytes] = {}
    for kind, start, end in _boxes(data):
        if kind in (b"colr", b"cmap", b"cdef"):
            boxes.setdefault(kind, data[start:end])
    colour = boxes.get(b"colr", b"")
    space = int.from_bytes(colour[3:7], "big") if colour[:1] == b"\1" else 16
    if space not in _COLOURS or (space == _CMYK and components != 4):
        name = _OTHER_COLOURS.get(space, f"the colour space {space}")
        raise refused_samples(f"a JPEG 2000 image of {name}", _SAVE_PNG)
    table = boxes.get(b"cmap", b"")
    if table and table != b"".join(struct.pack(">HBB", 0, 1, place) for place in range(len(table) // 4)):
        raise refused_samples("a JPEG 2000 image whose palette is mapped to other channels", _SAVE_PNG)
    channels = sorted(struct.iter_unpack(">3H", boxes.get(b"cdef", b"")[2 : 2 + 6 * components]))
    colours = components - (components in (2, 4) and space != _CMYK)
    if (
        channels
        and not table
        and any(
            channel != place or kind != (0 if place < colours else 1) or (kind == 0 and meaning != place + 1)
            for place, (channel, kind, meaning) in enumerate(channels)
        )
    ):
        raise refused_samples("a JPEG 2000 image whose channels have another order or meaning", _SAVE_PNG)


def _boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each box, and of those in the header box jp2h."""
    at, end = start, len(data) if end is None else min(end, len(data))
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, at)
        body = at + 8
        if length == 1 and at + 16 <= end:
            length, body = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        last = min(at + length, end) if length else end
        if last < body:
            return
        yield kind, body, last
        if kind == b"jp2h" and start == 0:
            yield from _boxes(data, body, last)
        at = last


def _codestream(data: bytes) -> int:
    """Return where the pixels begin, -1 without any. A preview in another box is not taken for them."""
    if data.startswith(_START):
        return 0
    return next((at for kind, at, _ in _boxes(data) if kind == b"jp2c" and data.startswith(_START, at)), -1)


def jpeg2000_samples(
    data: bytes, limits: ImageLimits, size: tuple[int, int] | None = None, may_be_signed: bool = False
) -> tuple[np.ndarray, int]:
    """Return the samples, [H, W] or [H, W, C], and their depth in bits. `size` is the height and width to expect.

    Raises ImageError; OpenJPEG may raise anything else.
    """
    import imagecodecs

    depth, components = _checked(data, limits, may_be_signed)
    samples = np.asarray(imagecodecs.jpeg2k_decode(data, planar=False))
    if samples.ndim == 3 and samples.shape[2] != components:
        raise refused_samples("a JPEG 2000 image with a palette", _SAVE_PNG)
    if size is not None and samples.shape[:2] != size:
        raise ImageInvalid(
            f"found a JPEG 2000 image of {' x '.join(map(str, samples.shape[:2]))}, expected "
            f"{' x '.join(map(str, size))} as the file states. Fix: {_SAVE_PNG}"
        )
    return samples, depth


def _checked(data: bytes, limits: ImageLimits, may_be_signed: bool = False) -> tuple[int, int]:
    """Check the codestream's header, and return the depth in bits and the number of components."""
    at = _codestream(data)
    if at < 0 or at + 42 > len(data):
        raise ImageInvalid(
            "found a JPEG 2000 file without a codestream. Fix: send the whole file", code="image_truncated"
        )
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = struct.unpack_from(
        ">8IH", data, at + 8
    )
    limits.check_size(right - left, bottom - top)
    if tile_width < 1 or tile_height < 1 or not 1 <= components <= 4 or at + 42 + 3 * components > len(data):
        raise refused_samples(f"a JPEG 2000 image of {components} channels", _SAVE_PNG)
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    if tiles > _MOST_TILES:
        raise ImageTooLarge(f"found {tiles} tiles, expected at most {_MOST_TILES}. Fix: {_SAVE_PNG}")
    _check_blocks(data, at, (right - left) * (bottom - top) * components)
    kinds = {tuple(data[place : place + 3]) for place in range(at + 42, at + 42 + 3 * components, 3)}
    depths = {kind[0] for kind in kinds}
    if may_be_signed:
        depths = {depth & 0x7F for depth in depths}
    if any(depth & 0x80 for depth in depths):
        raise refused_samples(f"a JPEG 2000 image of signed {(max(depths) & 0x7F) + 1}-bit samples")
    if len(depths) > 1 or max(depths) > 15:
        raise refused_samples(f"a JPEG 2000 image of {max(depths) + 1}-bit samples")
    return depths.pop() + 1, components


def _check_blocks(data: bytes, at: int, samples: int) -> None:
    """Refuse code-blocks or precincts that are so small that the decoder's tables would outgrow the pixels."""
    cod = data.find(b"\xff\x52", at, at + 65_536)
    if cod < 0 or cod + 14 > len(data):
        raise ImageInvalid("found a JPEG 2000 image without coding parameters. Fix: send the whole file")
    style, levels, block_width, block_height = data[cod + 4], data[cod + 9], data[cod + 10], data[cod + 11]
    areas = [2 ** (min(block_width, 8) + min(block_height, 8) + 4)]
    if style & 1:
        sizes = data[cod + 14 : cod + 15 + min(levels, 32)]
        areas.append(min((2 ** ((size & 15) + (size >> 4)) for size in sizes[-2:]), default=1))
    if samples > _MOST_CODE_BLOCKS * min(areas):
        raise ImageTooLarge(f"found code-blocks of {min(areas)} pixels, expected larger ones. Fix: {_SAVE_PNG}")
