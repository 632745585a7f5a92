"""Shapes, textures and light: what all drawings of this folder are painted with."""

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[np.float64]  # [H, W]
Picture = NDArray[np.float64]  # [H, W, 3], 0 to 255
Colour = tuple[float, float, float]
Point = tuple[float, float]  # y, x

SENSOR_NOISE = 1.0  # grey levels

# A shape is a plane of signed distances to its edge in pixels, positive inside. Later shapes cover earlier ones.


def grid(height: int, width: int) -> tuple[Plane, Plane]:
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return y, x


def blurred(plane: Plane, sigma: float) -> Plane:
    """Gaussian blur with mirrored borders."""
    reach = int(3 * sigma) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        pad = [(reach, reach) if axis == side else (0, 0) for side in (0, 1)]
        padded = np.pad(plane, pad, mode="symmetric")
        plane = np.apply_along_axis(np.convolve, axis, padded, kernel, "valid")
    return plane


def texture(rng: Generator, shape: tuple[int, int], grain: float) -> Plane:
    """Noise of mean 0 and deviation 1 whose spots are about `grain` pixels wide."""
    noise = blurred(rng.standard_normal(shape), grain)
    noise -= noise.mean()
    noise /= noise.std()
    return noise


def cover(distance: Plane, softness: float = 1.5) -> Plane:
    """Opacity of a shape: 1 inside, 0 outside, a ramp `softness` pixels wide on its edge."""
    return np.clip(0.5 + distance / softness, 0, 1)


def paint(picture: Picture, opacity: Plane, colour: Colour) -> Picture:
    return picture + opacity[..., None] * (np.array(colour) - picture)


def shade(picture: Picture, amount: Plane) -> Picture:
    """Lighten (positive) or darken by grey levels that may differ from pixel to pixel."""
    return picture + amount[..., None]


def ellipse(y: Plane, x: Plane, centre: Point, radii: Point, angle: float) -> Plane:
    dy, dx = y - centre[0], x - centre[1]
    along, across = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    distance: Plane = 1 - np.hypot(along / radii[0], across / radii[1])
    return distance * math.sqrt(radii[0] * radii[1])


def scattered(rng: Generator, count: int, apart: float, allowed: Plane) -> list[Point]:
    """Up to `count` random points of the allowed area, none nearer than `apart` pixels to another."""
    ys, xs = np.nonzero(allowed > 0)
    points: list[Point] = []
    for pick in rng.integers(0, max(len(ys), 1), size=30 * count if len(ys) else 0):
        y, x = float(ys[pick]), float(xs[pick])
        if all(np.hypot(y - v, x - u) >= apart for v, u in points):
            points.append((y, x))
        if len(points) == count:
            break
    return points


def two_nearest(y: Plane, x: Plane, points: list[Point]) -> tuple[Plane, Plane]:
    """Distances of each pixel to its nearest and second nearest point: equal on the border between two points."""
    distances = np.sort(np.stack([np.hypot(y - v, x - u) for v, u in points]), axis=0)
    return distances[0], distances[1]


def photographed(rng: Generator, picture: Picture, focus: float) -> Picture:
    """What the camera adds: a blur of `focus` pixels and a little noise."""
    seen = np.stack([blurred(picture[..., band], focus) for band in range(3)], axis=-1)
    return seen + SENSOR_NOISE * texture(rng, picture.shape[:2], 0.6)[..., None]


def image(picture: Picture) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
