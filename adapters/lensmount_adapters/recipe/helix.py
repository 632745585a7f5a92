"""Synthetic volumes of left- and right-handed helices: a task that cannot be solved from unordered slices.

A volume shows the threads of a screw in cylindrical coordinates: slices follow its axis, columns go around it, rows go
outwards. So each thread is a blob that moves right or left from slice to slice and comes back at the other edge.
A left-handed helix read backwards is a right-handed one. So both classes consist of the same slices, one by one and as
a set, and differ only in their order. A method that looks at single slices and averages stays at chance.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

CLASSES = ("left", "right")
SHAPE = (16, 64, 64)  # slices, rows, columns
COUNT = 200  # volumes per class
THREADS = 4
NOISE = 0.15  # standard deviation; the blobs' peaks are 0.4 to 0.8


def draw_helix(right: bool, seed: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Draw one volume, uint8 [slices, rows, columns]. Each volume needs a different seed, also across classes.

    The pitch, which all threads share, and each thread's position, brightness and width are random.
    """
    draw = np.random.default_rng(seed)
    depth, height, width = shape
    step = draw.uniform(3, 6) / 64 * width * (1 if right else -1)  # columns from slice to slice
    rows, columns = np.arange(height)[None, :, None], np.arange(width)[None, None, :]
    grey = 0.2 + draw.normal(0, NOISE, shape)  # [slices, rows, columns]
    for _ in range(THREADS):
        x = (draw.uniform(0, width) + step * np.arange(depth))[:, None, None]
        around = (columns - x + width / 2) % width - width / 2  # the shorter way
        away = around**2 + (rows - draw.uniform(0.1, 0.9) * height) ** 2
        grey += draw.uniform(0.4, 0.8) * np.exp(-away / (2 * (draw.uniform(0.03, 0.06) * width) ** 2))
    pixels: np.ndarray = np.round(grey.clip(0, 1) * 255).astype(np.uint8)
    return pixels


def write_helices(folder: Path, count: int = COUNT, shape: tuple[int, int, int] = SHAPE) -> None:
    """Write `folder/left/000.npy` and so on, `count` per class; the bytes are the same on every machine."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            np.save(folder / name / f"{number:03d}.npy", draw_helix(bool(label), 2 * number + label, shape))
