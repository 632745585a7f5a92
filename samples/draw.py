"""Draw the sample images and the training set of leaves from fixed seeds: the same pixels every time.

All images are synthetic. They show no real patient, person or plant.
"""

import argparse
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from leaves import TREES, leaf
from painting import (
    Colour,
    Picture,
    Plane,
    Point,
    blurred,
    cover,
    ellipse,
    grid,
    image,
    paint,
    photographed,
    scattered,
    shade,
    texture,
    two_nearest,
)

TILE = 224  # side of a tissue tile in pixels


# Red blood cells of a Giemsa-stained thin smear, cut out of the slide as in the NIH malaria set.

CELL_STAINS: list[Colour] = [(206, 144, 144), (180, 164, 180), (164, 160, 188), (210, 160, 152)]
CELL_RIM: Colour = (214, 194, 186)
CHROMATIN: Colour = (124, 20, 138)
CYTOPLASM: Colour = (158, 88, 150)


def blood_cell(seed: int, parasitized: bool) -> Picture:
    rng = np.random.default_rng(seed)
    side = int(rng.integers(118, 146))
    y, x = grid(side, side)
    depth = cell_outline(rng, y, x)
    stain = CELL_STAINS[int(rng.integers(len(CELL_STAINS)))]
    cell = paint(np.zeros((side, side, 3)), np.ones((side, side)), stain)
    cell = shade(cell, cell_relief(rng, y, x))
    cell = paint(cell, 0.4 * np.exp(-np.maximum(depth, 0) / 5), CELL_RIM)
    if parasitized:
        cell = with_parasite(rng, cell, depth)
    return cut_out(photographed(rng, cell, focus=0.8), depth)


def cell_outline(rng: Generator, y: Plane, x: Plane) -> Plane:
    half = len(y) / 2
    angle, radius = np.arctan2(y - half, x - half), np.hypot(y - half, x - half)
    edge = np.full_like(angle, 0.93 * half)
    for waves in range(2, 9):
        edge += half * rng.normal(0, 0.05 / waves) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    return edge - radius


def cell_relief(rng: Generator, y: Plane, x: Plane) -> Plane:
    """Add uneven light across the slide, the paler middle of a flat cell and soft mottling."""
    side = len(y)
    slope = rng.uniform(-6, 6) * (y / side - 0.5) + rng.uniform(-6, 6) * (x / side - 0.5)
    middle = (side * rng.uniform(0.4, 0.6), side * rng.uniform(0.4, 0.6))
    pallor = np.exp(-((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / (2 * (side * 0.15) ** 2))
    mottling = 1.0 * texture(rng, y.shape, 8) + 0.8 * texture(rng, y.shape, 1.5)
    return slope + rng.uniform(8, 30) * pallor + mottling


def with_parasite(rng: Generator, cell: Picture, depth: Plane) -> Picture:
    """A ring-stage trophozoite: a faint purple ring with a dark chromatin dot on it."""
    y, x = grid(*depth.shape)
    ((top, left),) = scattered(rng, 1, 0, depth - rng.uniform(18, 26))
    size, angle = rng.uniform(9, 13), rng.uniform(0, 2 * np.pi)
    ring = ellipse(y, x, (top, left), (size, size * rng.uniform(0.75, 1)), angle)
    cell = paint(cell, 0.25 * cover(ring, 3), CELL_RIM)
    cell = paint(cell, rng.uniform(0.5, 0.8) * cover(1.8 - np.abs(ring + 1.2 * texture(rng, y.shape, 4)), 3), CYTOPLASM)
    dot = (top + size * np.sin(angle), left + size * np.cos(angle))
    radii = (rng.uniform(6, 9), rng.uniform(5, 6.5))
    chromatin = ellipse(y, x, dot, radii, rng.uniform(0, np.pi)) + 0.6 * texture(rng, y.shape, 2)
    return paint(cell, 0.95 * cover(chromatin, 5), CHROMATIN)


def cut_out(cell: Picture, depth: Plane) -> Picture:
    """Black outside the cell; the edge has steps of 3 pixels, because the set's masks were made on smaller images."""
    inside = np.kron(depth[1::3, 1::3] > 0, np.ones((3, 3), dtype=bool))[: len(depth), : len(depth)]
    height, width = inside.shape
    rows, columns = np.nonzero(inside.any(axis=1))[0], np.nonzero(inside.any(axis=0))[0]
    cut = np.where(inside[..., None], cell[:height, :width], 0)
    return cut[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


# Lung tissue stained with haematoxylin (nuclei blue to purple) and eosin (the rest pink).


def nuclei(
    rng: Generator, picture: Picture, places: list[Point], size: Point, colour: Colour, angles: list[float]
) -> Picture:
    """Ovals with a dark membrane and clumps of chromatin, each a little different."""
    y, x = grid(*picture.shape[:2])
    clumps = texture(rng, y.shape, 1.6)
    for place, angle in zip(places, angles, strict=True):
        width = rng.uniform(*size)
        body = ellipse(y, x, place, (width, width * rng.uniform(0.5, 0.85)), angle) + 0.5 * clumps
        pale = rng.uniform(-0.6, 0.8)
        tone = (colour[0] + 22 * pale, colour[1] + 22 * pale, colour[2] + 8 * pale)
        picture = paint(picture, rng.uniform(0.8, 0.97) * cover(body, 2), tone)
        picture = shade(picture, cover(body, 2) * (14 * clumps - 26 * np.exp(-((body - 0.8) ** 2))))
    return picture


def any_angle(rng: Generator, count: int) -> list[float]:
    return [float(angle) for angle in rng.uniform(0, np.pi, count)]


def normal_lung(seed: int) -> Picture:
    """Thin alveolar walls between wide air spaces, with red blood cells in them and next to them."""
    rng = np.random.default_rng(seed)
    y, x = grid(TILE, TILE)
    bent_y, bent_x = y + 14 * texture(rng, y.shape, 16), x + 14 * texture(rng, y.shape, 16)
    spaces = scattered(rng, 7, 75, np.ones((TILE + 80, TILE + 80)))
    first, second = two_nearest(bent_y + 40, bent_x + 40, spaces)
    wall = 9 + 5 * texture(rng, y.shape, 20) + 1.2 * texture(rng, y.shape, 3) - (second - first) / 2
    fibres = texture(rng, y.shape, 2.5)
    tile = paint(np.zeros((TILE, TILE, 3)), np.ones((TILE, TILE)), (222, 208, 216))
    tile = paint(tile, 0.9 * cover(wall, 3), (203, 140, 198))
    tile = shade(tile, cover(wall, 3) * (11 * fibres - 20 * np.exp(-((wall - 1) ** 2) / 3)))
    reds = scattered(rng, 24, 9, wall - 1) + scattered(rng, 9, 9, wall + 25)
    tile = red_blood_cells(rng, tile, reds)
    places = scattered(rng, 42, 13, wall - 3)
    tile = nuclei(rng, tile, places, (5.5, 8.5), (76, 44, 128), any_angle(rng, len(places)))
    return photographed(rng, tile, focus=0.7)


def red_blood_cells(rng: Generator, picture: Picture, places: list[Point]) -> Picture:
    y, x = grid(*picture.shape[:2])
    for place in places:
        width = rng.uniform(4, 6.5)
        body = ellipse(y, x, place, (width, width * rng.uniform(0.6, 0.95)), rng.uniform(0, np.pi))
        picture = paint(picture, rng.uniform(0.7, 0.95) * cover(body, 2), (224, rng.uniform(50, 90), 130))
    return picture


def adenocarcinoma(seed: int) -> Picture:
    """Glands: tall cells with large nuclei around open lumens, fibrous stroma between the glands."""
    rng = np.random.default_rng(seed)
    y, x = grid(TILE, TILE)
    bent_y, bent_x = y + 12 * texture(rng, y.shape, 14), x + 12 * texture(rng, y.shape, 14)
    centres = scattered(rng, 4, 105, np.ones((TILE, TILE)))
    first, _ = two_nearest(bent_y, bent_x, centres)
    lumen = 36 + 2 * texture(rng, y.shape, 3) - first
    gland = lumen + 32
    tile = stroma(rng)
    tile = paint(tile, cover(gland, 4), (160, 116, 228))
    tile = shade(tile, cover(gland, 4) * 8 * texture(rng, y.shape, 2.5))
    tile = paint(tile, cover(lumen, 3), (205, 202, 250))
    tile = shade(tile, cover(lumen - 3, 4) * (3 * texture(rng, y.shape, 6) - 1.5 * np.abs(texture(rng, y.shape, 2))))
    spindles = scattered(rng, 30, 15, -gland - 3)
    tile = nuclei(rng, tile, spindles, (6, 9), (88, 52, 176), any_angle(rng, len(spindles)))
    lining = scattered(rng, 120, 13, np.minimum(gland - 5, -lumen - 6))
    outward = [away_from_nearest(place, centres) for place in lining]
    return photographed(rng, nuclei(rng, tile, lining, (7.5, 11.5), (92, 58, 182), outward), focus=0.7)


def stroma(rng: Generator) -> Picture:
    """Pink wavy fibres with pale gaps."""
    y, x = grid(TILE, TILE)
    waves = np.sin((y + 0.6 * x + 9 * texture(rng, y.shape, 12)) / 3.2)
    tile = paint(np.zeros((TILE, TILE, 3)), np.ones((TILE, TILE)), (180, 138, 234))
    tile = shade(tile, 7 * waves + 8 * texture(rng, y.shape, 2))
    return paint(tile, 0.8 * cover(texture(rng, y.shape, 4) - 1.4, 1), (204, 196, 250))


def away_from_nearest(place: Point, centres: list[Point]) -> float:
    v, u = min(centres, key=lambda centre: np.hypot(place[0] - centre[0], place[1] - centre[1]))
    return float(np.arctan2(place[0] - v, place[1] - u))


# Photo-like scenes for the smoking task, drawn in units of the frame: 0 to 1 from top left.

FRAME = 250  # side in pixels, as in the smoking set


def street(seed: int) -> Picture:
    """An empty street at noon: two rows of houses, a road to the vanishing point, trees."""
    rng = np.random.default_rng(seed)
    y, x = (plane / FRAME for plane in grid(FRAME, FRAME))
    scene = paint(np.zeros((FRAME, FRAME, 3)), np.ones((FRAME, FRAME)), (236, 240, 244))
    scene = paint(scene, np.clip(1 - 2.2 * y, 0, 1), (112, 162, 214))
    scene = paint(scene, 0.7 * cover(texture(rng, y.shape, 14) - 0.6, 2) * (y < 0.4), (250, 250, 250))
    for side in (-1, 1):
        scene = houses(rng, scene, y, x, side)
    ground = cover((y - 0.56) * FRAME, 2)
    scene = paint(scene, ground, (176, 170, 162))
    road = cover(((y - 0.545) * 0.95 - np.abs(x - 0.52)) * FRAME, 2) * ground
    scene = paint(scene, road, (98, 98, 102))
    dashes = cover(((y - 0.56) * 0.03 - np.abs(x - 0.52)) * FRAME, 1) * (np.sin(4 / (y - 0.5 + 1e-3)) > 0) * ground
    scene = paint(scene, dashes, (232, 230, 220))
    scene = shade(scene, ground * 5 * texture(rng, y.shape, 1.2))
    for place, size in (((0.46, 0.30), 0.06), ((0.47, 0.72), 0.05), ((0.40, 0.16), 0.10), ((0.38, 0.90), 0.11)):
        scene = tree(rng, scene, y, x, place, size)
    return photographed(rng, scene, focus=0.8)


def houses(rng: Generator, scene: Picture, y: Plane, x: Plane, side: int) -> Picture:
    """A row of facades that shrink towards the vanishing point, drawn from far to near."""
    far = np.abs(x - 0.52) + 1e-6  # 0 at the vanishing point
    for near in (0.12, 0.19, 0.29, 0.44):
        tall, wall = rng.uniform(1.0, 1.5), rng.uniform(120, 210) + rng.uniform(0, 1) * np.array([14, -8, -26])
        span = (side * (x - 0.52) > near) * (y < 0.57 + 0.2 * (far - near))
        front = span * cover((y - (0.55 - tall * far - 0.02)) * FRAME, 2)
        scene = paint(scene, front, (wall[0], wall[1], wall[2]))
        storey, column = (0.55 - y) / far / tall, np.log(far)
        panes = (np.mod(storey * 4, 1) > 0.4) * (np.mod(column * 9, 1) > 0.5) * (storey < 0.93) * (storey > 0.1)
        scene = paint(scene, 0.85 * front * blurred(panes.astype(np.float64), 0.7), (70, 82, 98))
    return shade(scene, 2.0 * texture(rng, y.shape, 2))


def tree(rng: Generator, scene: Picture, y: Plane, x: Plane, place: Point, size: float) -> Picture:
    trunk = (np.abs(x - place[1]) < 0.08 * size) * (y > place[0]) * (y < place[0] + 2.6 * size)
    scene = paint(scene, trunk.astype(np.float64), (86, 70, 58))
    crown = (size - np.hypot(y - place[0], (x - place[1]) * 1.15)) * FRAME + 4 * texture(rng, y.shape, 4)
    scene = paint(scene, cover(crown, 4), (74, 108, 58))
    return shade(scene, cover(crown, 4) * (16 * texture(rng, y.shape, 2) - 60 * (y - place[0]) / size / 2))


PROFILE = """
.62 .10  .55 .07  .46 .08  .40 .13  .375 .20  .37 .27  .355 .31  .325 .36  .33 .375  .355 .38  .355 .405  .345 .42
.36 .435  .35 .455  .365 .475  .365 .51  .39 .54  .44 .545  .48 .56  .50 .62  .48 .70  .36 .78  .28 .88  .25 1.02
1.02 1.02  1.02 .86  .86 .76  .73 .70  .69 .60  .71 .48  .73 .36  .73 .25  .70 .16
"""  # x y of a head and shoulders seen from the left; no real person's
SLEEVE = ".40 1.02  .14 1.02  .17 .86  .21 .70  .24 .665  .31 .67  .325 .70  .34 .84"
FINGERS: list[tuple[Point, Point, float]] = [  # centre, radii and angle of the lit parts, in the frame
    ((0.60, 0.272), (0.085, 0.05), 1.65),  # back of the hand
    ((0.52, 0.225), (0.075, 0.016), 1.35),
    ((0.50, 0.252), (0.075, 0.016), 1.50),
    ((0.49, 0.285), (0.072, 0.016), 1.68),
    ((0.555, 0.318), (0.055, 0.017), 2.15),  # thumb
]


def outline(points: str) -> Plane:
    """Approximate signed distance to a closed outline with rounded corners."""
    numbers = [float(number) * FRAME for number in points.split()]
    flat = Image.new("L", (FRAME, FRAME))
    ImageDraw.Draw(flat).polygon(list(zip(numbers[::2], numbers[1::2], strict=True)), fill=255)
    return (blurred(np.asarray(flat, dtype=np.float64) / 255, 2.0) - 0.5) * 5


def smoker(seed: int) -> Picture:
    """A dark figure in profile in front of evening lights, with a cigarette in the raised hand and smoke."""
    rng = np.random.default_rng(seed)
    y, x = grid(FRAME, FRAME)
    scene = paint(np.zeros((FRAME, FRAME, 3)), np.ones((FRAME, FRAME)), (58, 52, 60))
    scene = shade(scene, 26 * texture(rng, y.shape, 40))
    for _ in range(14):
        light = 9 + 9 * rng.uniform() - np.hypot(y - rng.uniform(0, 250), x - rng.uniform(0, 250))
        scene = paint(scene, rng.uniform(0.2, 0.6) * cover(light, 3), (232, rng.uniform(130, 210), 110))
    figure, sleeve = outline(PROFILE), outline(SLEEVE)
    scene = paint(scene, cover(figure), (34, 27, 28))
    lit = blurred(np.clip(cover(figure) - np.roll(cover(figure), 9, axis=1), 0, 1), 4)
    scene = paint(scene, 0.9 * lit * cover(figure), (196, 138, 106))
    for centre, radii, angle in FINGERS:
        finger = ellipse(y / FRAME, x / FRAME, centre, radii, angle) * FRAME
        scene = paint(scene, cover(finger, 2), (148, 102, 82))
        scene = shade(scene, cover(finger, 2) * (4 * texture(rng, y.shape, 3) - 45 * np.exp(-finger / 1.5)))
    scene = paint(scene, cover(sleeve), (40, 36, 44))
    scene = shade(scene, cover(sleeve) * 6 * texture(rng, y.shape, 6))
    reach = np.clip((x - 35) / 50, 0, 1)
    stick = cover(2.4 - np.abs(y - 112 - 4 * (1 - reach) - 0.06 * (x - 85))) * (x > 34) * (x < 86)
    scene = paint(scene, stick, (236, 230, 222))
    scene = paint(scene, stick * (x > 70), (206, 148, 88))
    scene = paint(scene, stick * (x < 38), (250, 120, 50))
    return photographed(rng, smoke(rng, scene, y, x), focus=0.8)


def smoke(rng: Generator, scene: Picture, y: Plane, x: Plane) -> Picture:
    up = np.clip((112 - y) / 112, 0, 1)
    drift = 34 + 26 * np.sin(3.2 * up) + 14 * up * texture(rng, y.shape, 18)
    width = 2.5 + 26 * up
    curls = np.clip(0.6 + 0.5 * texture(rng, y.shape, 5), 0, 1)
    veil = np.exp(-(((x - drift) / width) ** 2)) * curls * (up > 0) * (0.75 - 0.35 * up)
    return paint(scene, veil, (206, 208, 214))


TRAINING_IMAGES = 20  # per tree

DRAWINGS: dict[str, Callable[[], Picture]] = {
    "cell-parasitized.png": partial(blood_cell, 201, parasitized=True),
    "cell-parasitized-2.png": partial(blood_cell, 211, parasitized=True),
    "cell-uninfected.png": partial(blood_cell, 215, parasitized=False),
    "cell-uninfected-2.png": partial(blood_cell, 204, parasitized=False),
    "tissue-normal.png": partial(normal_lung, 1),
    "tissue-adenocarcinoma.png": partial(adenocarcinoma, 3),
    "smoker.png": partial(smoker, 1),
    "street.jpg": partial(street, 1),
    "leaf-birch.png": partial(leaf, "birch", 100),
    "leaf-maple.png": partial(leaf, "maple", 101),
    "leaf-oak.png": partial(leaf, "oak", 104),
    **{
        f"train/{tree}/{number:02}.png": partial(leaf, tree, 1000 * (1 + row) + number)
        for row, tree in enumerate(TREES)
        for number in range(1, TRAINING_IMAGES + 1)
    },
}


PAGE = Path("service/lensmount_service/page/samples/leaves.zip")  # the training set, for "Try this" on the page


def pack(folder: Path, out: Path) -> None:
    """The files below `folder` in one zip, the same bytes each time."""
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix()), path.read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write into")
    out: Path = parser.parse_args().out
    for name, draw in DRAWINGS.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        image(draw()).save(out / name, optimize=True, quality=92)
        print(out / name)
    if out == Path(__file__).parent:
        pack(out / "train", out.parent / PAGE)


if __name__ == "__main__":
    main()
