"""Draw pressed leaves of three trees: a small set to train a first adapter on."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from painting import Colour, Picture, Plane, blurred, cover, grid, paint, shade, texture

SIDE = 96  # pixels
STEP = 8  # grey levels between two neighbouring tones: a file of 5 kB instead of 15

# Every tree takes its colours and its paper from the same lists, so colour alone tells nothing about the tree.
LEAF_COLOURS: list[Colour] = [(86, 122, 52), (120, 140, 60), (186, 158, 62), (176, 106, 50), (150, 70, 48)]
PAPER_COLOURS: list[Colour] = [(236, 232, 220), (214, 204, 182), (176, 170, 158), (120, 112, 104), (206, 214, 218)]


def leaf(tree: str, seed: int) -> Picture:
    """One leaf at a random angle, size, place and tone."""
    rng = np.random.default_rng(seed)
    along, across = leaf_axes(rng)
    inside, veins = TREES[tree](rng, along, across)
    inside = inside * (0.36 * SIDE) + 0.5 * texture(rng, inside.shape, 2)  # from leaf lengths to pixels
    picture = sheet(rng)
    picture = shade(picture, -38 * blurred(cover(inside, 2), 2.5))  # the shadow that a flat leaf throws around itself
    stalk = cover((0.022 - np.abs(across - 0.1 * along**2)) * SIDE, 1) * (along < -0.6) * (along > -1.25)
    tone = leaf_colour(rng)
    picture = paint(picture, stalk, tuned(tone, -20))
    picture = paint(picture, cover(inside), tone)
    relief = 9 * texture(rng, inside.shape, 6) + 4 * texture(rng, inside.shape, 1.5)
    picture = shade(picture, cover(inside) * (relief + 16 * np.exp(-(((inside - 1) / 2) ** 2))))
    picture = paint(picture, 0.55 * cover(inside) * veins, tuned(tone, rng.choice([-40, 45])))
    blemishes = cover(texture(rng, inside.shape, 3) - rng.uniform(2.2, 3.2), 0.6) * cover(inside)
    picture = paint(picture, 0.8 * blemishes, (84, 62, 44))
    soft = np.stack([blurred(picture[..., band], 0.6) for band in range(3)], axis=-1)
    toned: Picture = np.clip(np.rint(soft / STEP) * STEP, 0, 255)
    return toned


def leaf_axes(rng: Generator) -> tuple[Plane, Plane]:
    """Coordinates of each pixel along the midrib (-1 at the base, 1 at the tip) and across it, seen a little askew."""
    y, x = (plane - SIDE / 2 for plane in grid(SIDE, SIDE))
    y, x = y - rng.uniform(-6, 6), x - rng.uniform(-6, 6)
    angle, length = rng.uniform(0, 2 * np.pi), SIDE * rng.uniform(0.33, 0.42)
    along, across = (np.cos(angle) * x + np.sin(angle) * y) / length, (np.cos(angle) * y - np.sin(angle) * x) / length
    return along, across / rng.uniform(0.82, 1.05) + rng.uniform(-0.12, 0.12) * (1 - along**2)


# Each tree returns how far inside the outline a pixel is, in leaf lengths, and where its veins are, 0 to 1.


def birch(rng: Generator, along: Plane, across: Plane) -> tuple[Plane, Plane]:
    """A rhombic blade with a drawn-out tip and a margin of fine teeth."""
    place = (along + 0.85) / 1.8
    t = np.clip(place, 0, 1)
    width = rng.uniform(0.60, 0.72) * np.sin(np.pi * t**0.72) ** rng.uniform(0.95, 1.15)
    teeth = 0.07 * (np.mod(rng.uniform(13, 16) * t, 1) - 0.5) * np.sqrt(t * (1 - t))
    return within(place, width + teeth - np.abs(across)), pinnate(along, across, pairs=7, slope=0.9)


def oak(rng: Generator, along: Plane, across: Plane) -> tuple[Plane, Plane]:
    """Rounded lobes with deep bays, widest towards the tip."""
    place = (along + 0.95) / 1.95
    t = np.clip(place, 0, 1)
    body = rng.uniform(0.50, 0.62) * t**0.7 * np.clip(1.06 - t**6, 0, 1) ** 0.6
    lobes, phase = rng.uniform(3.2, 4.2), rng.uniform(-0.6, 0.6)
    waves = np.cos(2 * np.pi * lobes * (t - 0.25 * np.abs(across)) + phase + 0.5 * np.sign(across))
    bays = 1 + rng.uniform(0.24, 0.34) * np.sign(waves) * np.abs(waves) ** 0.7
    return within(place, body * bays - np.abs(across)), pinnate(along, across, pairs=4, slope=0.7)


def maple(rng: Generator, along: Plane, across: Plane) -> tuple[Plane, Plane]:
    """Five pointed lobes that spread from the end of the stalk like the fingers of a hand."""
    angle, radius = np.arctan2(across, along + 0.45), np.hypot(along + 0.45, across)
    edge, veins = np.full_like(angle, rng.uniform(0.50, 0.58)), np.zeros_like(angle)
    for finger, reach in ((0, 1.4), (-0.85, 1.2), (0.85, 1.2), (-1.75, 0.8), (1.75, 0.8)):
        aside = np.abs(angle - finger - rng.normal(0, 0.05))
        lobe = reach * rng.uniform(0.9, 1.06) / (1 + (aside / rng.uniform(0.34, 0.42)) ** 1.4)
        teeth = 0.09 * np.maximum(np.cos(17 * aside - 2.6), 0) * (aside > 0.1) * (aside < 0.5)
        edge = np.maximum(edge, lobe + teeth * reach)
        veins = np.maximum(veins, np.exp(-((aside * radius / 0.022) ** 2)) * (radius < reach) * (aside < 1))
    return (edge - radius) * 0.8, veins


TREES: dict[str, Callable[[Generator, Plane, Plane], tuple[Plane, Plane]]] = {
    "birch": birch,
    "maple": maple,
    "oak": oak,
}


def within(place: Plane, distance: Plane) -> Plane:
    """The distance to the margin, ended where the blade ends: at its base (place 0) and its tip (place 1)."""
    return np.minimum(distance, np.minimum(place, 1 - place) * 3 - 0.02)


def pinnate(along: Plane, across: Plane, pairs: int, slope: float) -> Plane:
    """A midrib with pairs of side veins that run outwards and forwards."""
    midrib = np.exp(-((across / 0.025) ** 2))
    place = (along - slope * np.abs(across) + 0.9) * pairs / 1.7
    side = np.exp(-(((np.mod(place, 1) - 0.5) / 0.09) ** 2))
    return np.maximum(midrib, 0.7 * side)


def sheet(rng: Generator) -> Picture:
    """The paper, board or stone below the leaf, lit from one side."""
    y, x = grid(SIDE, SIDE)
    tone = PAPER_COLOURS[int(rng.integers(len(PAPER_COLOURS)))]
    picture = paint(np.zeros((SIDE, SIDE, 3)), np.ones((SIDE, SIDE)), tone)
    light = rng.uniform(-14, 14) * (y / SIDE - 0.5) + rng.uniform(-14, 14) * (x / SIDE - 0.5)
    return shade(picture, light + rng.uniform(1, 7) * texture(rng, (SIDE, SIDE), rng.uniform(1.5, 5)))


def leaf_colour(rng: Generator) -> Colour:
    """A tone between two of the leaf colours."""
    first, second = (np.array(LEAF_COLOURS[int(rng.integers(len(LEAF_COLOURS)))]) for _ in range(2))
    share = rng.uniform()
    red, green, blue = share * first + (1 - share) * second + rng.uniform(-12, 12)
    return float(red), float(green), float(blue)


def tuned(colour: Colour, levels: float) -> Colour:
    return colour[0] + levels, colour[1] + levels, colour[2] + levels
