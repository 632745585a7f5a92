"""From samples of any depth to 8-bit RGB, by rules that every format shares.

- A sample of b bits, 1 to 16, becomes value * 255 / (2^b - 1), rounded. So 12 bits are divided by 4095, 16 by 65535.
- Alpha is scaled in the same way. After that, colours are blended over white as Pillow does it.
- An image whose alpha is 0 everywhere is refused, because nothing of it would be seen.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from lensmount_adapters.errors import ImageInvalid

WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
TO_8_BITS = "numpy.interp(image, (image.min(), image.max()), (0, 255)).round().astype('uint8')"
_WITH_GAPS = "numpy.interp(image, (numpy.nanmin(image), numpy.nanmax(image)), (0, 255))"  # NaN stays NaN
FLOATS_TO_8_BITS = f"numpy.nan_to_num({_WITH_GAPS}).round().astype('uint8')"
COMPLEX_TO_8_BITS = TO_8_BITS.replace("image", "numpy.abs(image)")


def to_8_bits(samples: np.ndarray, bits: int) -> np.ndarray:
    """Scale unsigned samples of `bits` bits (1 to 16) to uint8. Bits above the stated depth are ignored."""
    if bits == 8:
        return samples.astype(np.uint8, copy=False)
    scaled: np.ndarray = _table(bits)[samples & ((1 << bits) - 1)]
    return scaled


@lru_cache(maxsize=16)
def _table(bits: int) -> np.ndarray:
    top = (1 << bits) - 1
    table: np.ndarray = ((np.arange(top + 1, dtype=np.uint32) * 255 + top // 2) // top).astype(np.uint8)
    return table


def image_of(samples: np.ndarray, is_premultiplied: bool = False) -> Image.Image:
    """Return the RGB image of uint8 samples [H, W], or [H, W, 1 to 4]: grey, grey + alpha, RGB or RGBA.

    Raises ImageInvalid if alpha is 0 everywhere.
    """
    samples = samples[..., None] if samples.ndim == 2 else samples
    if samples.shape[2] in (1, 3):
        return Image.fromarray(np.ascontiguousarray(np.broadcast_to(samples, (*samples.shape[:2], 3))))
    if samples.shape[2] == 2:
        samples = samples[..., [0, 0, 0, 1]]
    height, width = samples.shape[:2]
    raw_mode = "RGBa" if is_premultiplied else "RGBA"  # Pillow divides by alpha while it unpacks RGBa
    return over_white(Image.frombytes("RGBA", (width, height), samples.tobytes(), "raw", raw_mode))


def over_white(image: Image.Image) -> Image.Image:
    """Blend an image with transparency over white. Raises ImageInvalid if it is transparent everywhere."""
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema() == (0, 0):
        raise ImageInvalid(
            "found an image that is transparent everywhere (its alpha channel is 0), expected something to see. "
            "Fix: remove the alpha channel and send the image again"
        )
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded Pillow image to RGB. Raises ImageInvalid (32-bit pixels, transparent everywhere)."""
    if image.mode.startswith("I;16"):
        return image_of(to_8_bits(np.asarray(image).astype(np.uint16), 16))
    if image.mode in ("I", "F"):
        raise refused_samples(f"32-bit pixels (mode {image.mode})")
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        return over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def refused_samples(found: str, way_out: str = "", scaled: str = TO_8_BITS, **details: Any) -> ImageInvalid:
    """The error about samples that have no rule to become 8 bits, such as "a TIFF of signed 16-bit samples".

    `way_out` is what to do; without it, it is the line of numpy in `scaled`.
    """
    way_out = way_out or f"choose the range that should be seen and save it as 8 bits, for example {scaled}"
    return ImageInvalid(
        f"found {found}, expected unsigned samples of 1 to 16 bits. Fix: {way_out}",
        code="unsupported_color_mode",
        **details,
    )
