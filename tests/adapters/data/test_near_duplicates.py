"""Images that look alike are found, and different images of one kind are not."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from lensmount_adapters.data.near_duplicates import alike, likeness_of, near_pairs
from lensmount_adapters.inputs.images import decode_image

DATA = Path(__file__).parents[4] / "shared" / "data"


def scene(seed: int, side: int = 96) -> Image.Image:
    """Soft colours with a few shapes."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 255, (7, 7, 3), dtype=np.uint8))
    image = small.resize((side, side), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(4):
        x, y, r = (int(v) for v in random.integers(5, side - 20, 3))
        pen.ellipse((x, y, x + r // 3 + 4, y + r // 4 + 4), fill=tuple(int(v) for v in random.integers(0, 255, 3)))
    return image


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def found(images: list[Image.Image]) -> set[tuple[int, int]]:
    pairs = [(int(i), int(j)) for block in alike([likeness_of(image) for image in images]) for i, j, _ in block]
    assert len(pairs) == len(set(pairs))
    return set(pairs)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "re-encoded": lambda image: jpeg(image, 75),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "scaled and re-encoded": lambda image: jpeg(image.resize((87, 87), Image.Resampling.BILINEAR), 85),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.08),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "mirrored and re-encoded": lambda image: jpeg(ImageOps.mirror(image), 80),
} | {way.name: lambda image, way=way: image.transpose(way) for way in Image.Transpose}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_other_images(change: str) -> None:
    images = [scene(seed) for seed in range(40)]

    assert found([*images, *(CHANGES[change](image) for image in images)]) == {(i, i + 40) for i in range(40)}


def test_nothing_alike_gives_no_pairs() -> None:
    assert found([scene(seed) for seed in range(60)]) == set()
    assert found([]) == set()
    assert found([scene(0)]) == set()


@pytest.mark.parametrize("name", ["malaria-nih", "malaria-nih-gray50"])
def test_cells_of_one_kind_are_not_copies_but_their_copies_are_found(name: str) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"needs the images of {name}, which are not part of the repository")
    paths = sorted((DATA / name).rglob("*.png"))[::4]
    images = [decode_image(path.read_bytes()) for path in paths]
    copies = [jpeg(image, 90) for image in images[:100]]

    pairs = found([*images, *copies])

    assert {pair for pair in pairs if pair[1] < len(images)} == set()
    assert len(pairs & {(i, len(images) + i) for i in range(len(copies))}) >= 0.98 * len(copies)


def test_an_image_that_looks_the_same_when_turned_is_one_pair_with_its_copy() -> None:
    ring = Image.new("RGB", (96, 96))
    ImageDraw.Draw(ring).ellipse((20, 20, 75, 75), fill="white")

    assert found([ring, ring, ring]) == {(0, 1), (0, 2), (1, 2)}


def test_a_pair_says_whether_one_of_its_images_is_turned() -> None:
    image, other = scene(1), scene(2)
    images = [image, other, jpeg(image, 75), image.rotate(90), ImageOps.flip(other)]

    rows = np.concatenate(list(alike([likeness_of(image) for image in images])))

    turned = {(int(i), int(j)): bool(k) for i, j, k in rows}
    assert turned == {(0, 2): False, (0, 3): True, (2, 3): True, (1, 4): True}


@pytest.mark.parametrize("distance", [0, 3, 20, 64])
def test_near_pairs_are_those_of_a_plain_double_loop(distance: int) -> None:
    random = np.random.default_rng(distance)
    words = random.integers(0, 2**63, (150, 4), dtype=np.uint64)
    for copy in range(60):  # neighbours at every distance from 0 to 59 bits
        bits = np.unpackbits(words[copy].view(np.uint8))
        bits[random.permutation(256)[:copy]] ^= 1
        words[90 + copy] = np.packbits(bits).view(np.uint64)
    orientations = [words, words[::-1].copy(), words]

    rows = [tuple(map(int, row)) for block in near_pairs(orientations, distance) for row in block]

    plain = [
        (i, j, k)
        for i in range(150)
        for j in range(i + 1, 150)
        for k, turned in enumerate(orientations)
        if sum(int(word).bit_count() for word in words[i] ^ turned[j]) <= distance
    ]
    assert rows == plain
    assert rows


def test_ten_thousand_images_are_compared_in_seconds() -> None:
    random = np.random.default_rng(0)
    orientations = [random.integers(0, 2**63, (10_000, 4), dtype=np.uint64) for _ in range(8)]
    orientations[5][9_999] = orientations[0][0]

    start = time.perf_counter()
    rows = [tuple(map(int, row)) for block in near_pairs(orientations) for row in block]

    assert rows == [(0, 9_999, 5)]
    assert time.perf_counter() - start < 10  # 1 s on an idle core
