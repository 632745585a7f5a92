"""Draws an explanation over the image: what speaks for the label is coloured, everything else stays as it is."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from lensmount_adapters.inputs.images import shown_box
from lensmount_adapters.inputs.rules import Preprocessing

MAX_SIDE = 1024  # pixels of the drawing
OPACITY = 0.75  # of the largest value
_COLOURS = ((255, 213, 79), (245, 124, 0), (198, 20, 40))  # from small to large values: yellow, orange, red


def overlay(image: Image.Image, values: np.ndarray, rule: Preprocessing) -> bytes:
    """A PNG of the image with the values [rows, columns] over the part that the network saw.

    Values are interpolated between the centres of their cells (bilinear), from clear at 0 to red at the largest one.
    Values below zero stay clear. An image with a side over `MAX_SIDE` pixels is drawn smaller.
    """
    scale = min(1.0, MAX_SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    drawing = image.convert("RGB") if scale == 1 else image.convert("RGB").resize(size, reducing_gap=2.0)
    left, top, right, bottom = (round(edge * scale) for edge in shown_box(image.size, rule))
    heat = _grey(values).resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR)
    heat_map = Image.new("L", size)
    heat_map.paste(heat, (left, top))
    drawing.paste(_coloured(heat_map), mask=heat_map.point([round(OPACITY * value) for value in range(256)]))
    out = io.BytesIO()
    drawing.save(out, "PNG")
    return out.getvalue()


def _grey(values: np.ndarray) -> Image.Image:
    """One pixel for each value: 255 for the largest one, and 0 for 0 and below."""
    positive = np.maximum(values, 0)
    largest = float(positive.max())
    return Image.fromarray((positive * (255 / largest if largest > 0 else 0)).round().astype(np.uint8))


def _coloured(heat_map: Image.Image) -> Image.Image:
    parts = [np.interp(range(256), (0, 128, 255), part).round().astype(int) for part in zip(*_COLOURS, strict=True)]
    return Image.merge("RGB", [heat_map.point(part.tolist()) for part in parts])
