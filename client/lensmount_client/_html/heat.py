"""A grid of values over an image, as one SVG that the browser smooths."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

from lensmount_client._html.markup import line, text
from lensmount_client._html.picture import SIDE, picture_of

OPACITY = 0.75
COLOURS = ((255, 213, 79), (245, 124, 0), (198, 20, 40))  # from small to large values: yellow, orange, red
Rows = Sequence[Sequence[float]]


def shades(values: Rows) -> list[int]:
    """Each value as 0 to 255, row by row; the largest is 255, and what is not positive is 0."""
    largest = max(max(row) for row in values)
    return [round(255 * max(value, 0) / largest) if largest > 0 else 0 for row in values for value in row]


def colour(shade: int) -> tuple[int, int, int]:
    """The colour of a shade from 0 to 255."""
    low, middle, high = COLOURS
    start, end, share = (low, middle, shade / 128) if shade < 128 else (middle, high, (shade - 128) / 127)
    red, green, blue = (round(one + (other - one) * share) for one, other in zip(start, end, strict=True))
    return red, green, blue


def heat_svg(
    image: bytes, values: Rows, size: tuple[int, int], box: tuple[float, float, float, float], alt: str
) -> str:
    """The values at `box` (left, top, right, bottom) over an image of `size` (height, width) in pixels."""
    (height, width), (left, top, right, bottom) = size, box
    scale = SIDE / max(height, width, 1)
    picture = picture_of(image) if image else None
    below = (
        f'<image href="{picture.uri}" width="{width}" height="{height}" preserveAspectRatio="none"/>' if picture else ""
    )
    note = "" if picture else line("no preview of this image")
    return (
        f'<svg role="img" aria-label="{text(alt)}" viewBox="0 0 {width} {height}" width="{width * scale:.0f}" '
        f'height="{height * scale:.0f}" xmlns="http://www.w3.org/2000/svg">{below}'
        f'<image href="{_png(values)}" x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}" '
        f'preserveAspectRatio="none"/></svg>{note}'
    )


def _png(values: Rows) -> str:
    """A PNG of one pixel per value, clear where nothing speaks for the label, as a data URI."""
    pixels = [bytes((*colour(shade), round(OPACITY * shade))) for shade in shades(values)]
    rows, columns = len(values), len(values[0])
    raw = b"".join(b"\0" + b"".join(pixels[row * columns : (row + 1) * columns]) for row in range(rows))
    header = struct.pack(">IIBBBBB", columns, rows, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    parts = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    content = b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
