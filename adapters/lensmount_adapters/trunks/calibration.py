"""The images on which the ranges of an int8 trunk are measured: drawn ones, or those of a folder.

Drawn images are dead leaves: discs of random colours and of sizes with a power law, which cover each other, with noise
of the spectrum of photographs (Lee, Mumford, Huang 2001, doi:10.1023/A:1011109015675). Their edges and full colours
drive the activations as far as real images do; smooth noise alone does not. docs/decisions.md has the figures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lensmount_adapters.errors import DatasetError, ImageError
from lensmount_adapters.inputs.images import IMAGE_SUFFIXES, decode_image, preprocess
from lensmount_adapters.inputs.rules import Preprocessing

DRAWN = 40  # images; more change nothing
FROM_FOLDER = 200  # the most images that are taken from a folder, evenly
VERSION = 1  # of how images are drawn


@dataclass(frozen=True, slots=True)
class Calibration:
    """`calibration.images(rule)` are inputs [1, 3, height, width], float32. `digest` changes with the images."""

    digest: str
    images: Callable[[Preprocessing], Sequence[np.ndarray]]


def drawn_calibration() -> Calibration:
    """Images that are drawn from fixed seeds."""
    return Calibration(f"drawn-{VERSION}-{DRAWN}", lambda rule: [_drawn(rule, seed) for seed in range(DRAWN)])


def folder_calibration(folder: Path) -> Calibration:
    """The images of a folder and its subfolders. Raises DatasetError if it has none that can be read."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    chosen = files[:: max(1, -(-len(files) // FROM_FOLDER))]
    if not chosen:
        raise DatasetError(f"found no images in {folder}, expected some to calibrate int8 on. Fix: another folder")
    contents = [path.read_bytes() for path in chosen]
    digest = hashlib.sha256()
    for content in contents:
        digest.update(hashlib.sha256(content).digest())

    def images(rule: Preprocessing) -> list[np.ndarray]:
        found = []
        for path, content in zip(chosen, contents, strict=True):
            try:
                found.append(preprocess(decode_image(content), rule)[None].numpy())
            except ImageError as error:
                raise DatasetError(f"{path}: {error}") from error
        return found

    return Calibration(f"sha256:{digest.hexdigest()}", images)


def _drawn(rule: Preprocessing, seed: int) -> np.ndarray:
    """One image [1, 3, height, width], normalised by the rule."""
    (height, width), draw = rule.size, np.random.default_rng((VERSION, seed))
    rows, columns = np.ogrid[:height, :width]
    pixels = np.ones((3, height, width)) * draw.random((3, 1, 1)) * (seed % 3 > 0)  # every third one on black
    smallest, largest = 2 / max(height, width), 0.5
    for _ in range(2 ** (2 + seed % 8)):  # 4 to 512 discs
        u = draw.random()
        radius = max(height, width) * (smallest**-2 + u * (largest**-2 - smallest**-2)) ** -0.5
        centre = draw.random(2) * (height, width)
        inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
        pixels[:, inside] = draw.random((3, 1))
    texture = 0.2 * draw.random() * _texture(draw, height, width)
    pixels = np.clip(pixels + texture * (pixels.sum(0) > 0), 0, 1)  # black stays black
    mean, std = (np.array(values)[:, None, None] for values in (rule.mean, rule.std))
    image: np.ndarray = ((pixels - mean) / std)[None].astype(np.float32)
    return image


def _texture(draw: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise [3, height, width] of variance 1 with the spectrum of photographs, about 1 / frequency."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    amplitude = 1 / (frequency + 1 / max(height, width)) ** (0.4 + draw.random())
    noise = draw.standard_normal((3, *frequency.shape, 2)) @ (1, 1j)
    fields = np.fft.irfft2(noise * amplitude, s=(height, width))
    return np.asarray((fields - fields.mean((1, 2), keepdims=True)) / fields.std())
