"""Copies of an image that changed so little that they are the same to a person: compressed, darker, brighter, softer.

A lossless image and its JPEG differ in every pixel of a dark background. Statistics of the one alone take each of the
other for something never seen (docs/decisions.md).
"""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageEnhance, ImageFilter


def _compressed(image: Image.Image) -> Image.Image:
    stored = io.BytesIO()
    image.save(stored, "JPEG", quality=70)
    return Image.open(stored).convert("RGB")


def _softer(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(0.7 * min(image.size) / 224))


MILD: tuple[Callable[[Image.Image], Image.Image], ...] = (
    _compressed,
    lambda image: ImageEnhance.Brightness(image).enhance(0.9),
    lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    _softer,
)
"""Each makes an RGB image of the same size from one: JPEG of quality 70, 10 % darker, 10 % brighter, a slight blur."""
