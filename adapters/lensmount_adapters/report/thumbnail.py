"""Small images inside a page, as data URIs: a thumbnail of an image file, or a heat map of a matrix."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from lensmount_adapters.errors import ImageError
from lensmount_adapters.inputs.images import decode_image

SIDE = 128
MAX_CELLS = 256  # on each side of the matrix
ACCENT = (31, 111, 190)


def thumbnail(data: bytes) -> str | None:
    """The image as a JPEG data URI, at most `SIDE` pixels on its longer side; None if it cannot be decoded."""
    try:
        image = decode_image(data)
    except ImageError:
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    return _data_uri(image, "JPEG", quality=80)


def heat_map(shares: np.ndarray) -> str:
    """Shares [rows, columns] in [0, 1] as a PNG data URI with one pixel per cell.

    A matrix of more than `MAX_CELLS` rows or columns is reduced to the maximum of each block. The shade is the square
    root of the share, so that a share of a few percent is visible; empty cells are transparent.
    """
    height, width = shares.shape
    block = -(-max(height, width) // MAX_CELLS)
    padded = np.pad(shares, ((0, -height % block), (0, -width % block)))
    pooled = padded.reshape(padded.shape[0] // block, block, padded.shape[1] // block, block).max(axis=(1, 3))
    pixels = np.empty((*pooled.shape, 4), dtype=np.uint8)
    pixels[..., :3] = ACCENT
    pixels[..., 3] = np.round(np.sqrt(pooled.clip(0, 1)) * 255)
    return _data_uri(Image.fromarray(pixels), "PNG", optimize=True)


def _data_uri(image: Image.Image, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
