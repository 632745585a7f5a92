"""Draws an explanation over the image: what speaks for the label is coloured, everything else stays as it is."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from lensmount_adapters.inputs.images import shown_box
from lensmount_adapters.inputs.rules import Preprocessing

MAX_SIDE = 1024  # pixels of the drawing
OPACITY = 0.75  # of the largest value
_STOPS = (0.0, 0.5, 1.0)
_COLOURS = ((255, 213, 79), (245, 124, 0), (198, 20, 40))  # yellow, orange, red


def overlay(image: Image.Image, values: np.ndarray, rule: Preprocessing) -> bytes:
    """A PNG of the image with the values [rows, columns] over the part that the network saw.

    Values are interpolated between the centres of their cells (bilinear), from clear at 0 to red at the largest one.
    Values below zero stay clear. An image with a side over `MAX_SIDE` pixels is drawn smaller.
    """
    drawing = image.convert("RGB")
    box = shown_box(drawing.size, rule)
    scale = min(1.0, MAX_SIDE / max(drawing.size))
    if scale < 1:
        size = (max(1, round(drawing.width * scale)), max(1, round(drawing.height * scale)))
        drawing = drawing.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    heat = _heat(values, drawing.size, (box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale))
    ramp = np.stack([np.interp(heat, _STOPS, part) for part in zip(*_COLOURS, strict=True)], axis=-1)
    weight = (OPACITY * heat)[..., None]
    blended = (1 - weight) * np.asarray(drawing, np.float32) + weight * ramp
    out = io.BytesIO()
    Image.fromarray(blended.round().astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def _heat(values: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float]) -> np.ndarray:
    """float32 [height, width] in [0, 1] for an image of `size` (width, height), 0 outside of the box."""
    positive = np.maximum(values.astype(np.float32), 0)
    top = float(positive.max())
    grid = positive / top if top > 0 else positive
    rows, row_inside = _positions(size[1], box[1], box[3], grid.shape[0])
    columns, column_inside = _positions(size[0], box[0], box[2], grid.shape[1])
    across = np.stack([np.interp(columns, np.arange(grid.shape[1]), row) for row in grid])  # [rows, width]
    low = np.clip(np.floor(rows).astype(int), 0, grid.shape[0] - 1)
    high = np.minimum(low + 1, grid.shape[0] - 1)
    part = np.clip(rows - low, 0, 1)[:, None]
    heat: np.ndarray = ((1 - part) * across[low] + part * across[high]) * (row_inside[:, None] & column_inside)
    return heat.astype(np.float32)


def _positions(pixels: int, start: float, end: float, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the centre of each pixel lies among the centres of the cells, and whether it is inside of the box."""
    centres = np.arange(pixels) + 0.5
    share = (centres - start) / (end - start)
    return share * cells - 0.5, (share >= 0) & (share <= 1)
