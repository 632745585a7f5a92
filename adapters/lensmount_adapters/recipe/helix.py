"""Drawn volumes of left- and right-handed helices: a task that no slice and no set of slices can solve.

The threads of a screw in cylindrical coordinates: slices lie along its axis, columns go around it, rows go outwards. So
each thread is a blob that moves from slice to slice, to the right or to the left, and comes back at the other edge.
Read backwards, a left-handed helix is a right-handed one: the slices of both classes are the same, each by itself and
all together, and only their order tells. Whatever sees slices one by one and averages stays at chance.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

CLASSES = ("left", "right")
SHAPE = (16, 64, 64)  # slices, rows, columns
COUNT = 200  # volumes of each class
THREADS = 4
NOISE = 0.15  # standard deviation; the blobs' peaks are 0.4 to 0.8


def draw_helix(right: bool, seed: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """One volume, uint8 [slices, rows, columns]; give each volume a seed of its own, whatever its class.

    Pitch, which all threads share, and each thread's place, brightness and width are drawn.
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
    """`folder/left/000.npy` and so on, `count` of each class; the same numbers give the same bytes everywhere."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            np.save(folder / name / f"{number:03d}.npy", draw_helix(bool(label), 2 * number + label, shape))
