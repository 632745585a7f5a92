"""Which way is up: the orientation tag of an image, read by itself, so that no other tag can cost the image.

Only a whole number from 1 to 8 counts. Without one, or with damaged metadata, the image is taken as it is stored.
"""

from __future__ import annotations

import re
import struct

from PIL import Image

TAG = 0x0112
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # type of a TIFF tag: its layout
_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([0-9])")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn an image that was stored with `orientation` (1 to 8). Other numbers leave it as it is."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def orientation_of(exif: bytes | None, xmp: bytes | str | None = None) -> int:
    """Return the orientation of an EXIF block, or that of an XMP packet if EXIF has none, or 1."""
    found = orientation_in_exif(exif) if exif else None
    if found is None and xmp:
        match = _XMP.search(xmp if isinstance(xmp, bytes) else xmp.encode("utf-8", "replace"))
        found = int(match[1]) if match else None
    return within_range(found)


def within_range(orientation: int | None) -> int:
    """Return an orientation as it is stated if it is one, 1 to 8, and 1 otherwise."""
    return orientation if orientation in _TURNS else 1


def orientation_in_exif(exif: bytes) -> int | None:
    """Return the value of the orientation tag in the first directory of an EXIF block, or None without one."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 10:
        return None
    (start,) = struct.unpack_from(order + "I", exif, 4)
    if start + 2 > len(exif):
        return None
    (entries,) = struct.unpack_from(order + "H", exif, start)
    found = None
    for at in range(start + 2, min(start + 2 + 12 * entries, len(exif) - 11), 12):
        tag, kind, count = struct.unpack_from(order + "HHI", exif, at)
        if tag == TAG and count == 1 and kind in _WHOLE_NUMBERS:
            (found,) = struct.unpack_from(order + _WHOLE_NUMBERS[kind], exif, at + 8)
    return found
