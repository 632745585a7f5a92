"""Images that look alike are found, and different images of one kind are not."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

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
    return {(int(i), int(j)) for block in alike([likeness_of(image) for image in images]) for i, j in block}


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "re-encoded": lambda image: jpeg(image, 75),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "scaled and re-encoded": lambda image: jpeg(image.resize((87, 87), Image.Resampling.BILINEAR), 85),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.08),
    "grey": lambda image: image.convert("L").convert("RGB"),
}


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


@pytest.mark.parametrize("distance", [0, 3, 20, 64])
def test_near_pairs_are_those_of_a_plain_double_loop(distance: int) -> None:
    random = np.random.default_rng(distance)
    words = random.integers(0, 2**63, (150, 4), dtype=np.uint64)
    for copy in range(60):  # neighbours at every distance from 0 to 59 bits
        bits = np.unpackbits(words[copy].view(np.uint8))
        bits[random.permutation(256)[:copy]] ^= 1
        words[90 + copy] = np.packbits(bits).view(np.uint64)

    pairs = {(int(i), int(j)) for block in near_pairs(words, distance) for i, j in block}

    plain = {
        (i, j)
        for i in range(150)
        for j in range(i + 1, 150)
        if sum(int(word).bit_count() for word in words[i] ^ words[j]) <= distance
    }
    assert pairs == plain
    assert pairs


def test_twenty_thousand_images_are_compared_in_seconds() -> None:
    words = np.random.default_rng(0).integers(0, 2**63, (20_000, 4), dtype=np.uint64)
    words[19_999] = words[0]

    start = time.perf_counter()
    pairs = [tuple(map(int, pair)) for block in near_pairs(words) for pair in block]

    assert pairs == [(0, 19_999)]
    assert time.perf_counter() - start < 10  # 0.3 s on an idle core
