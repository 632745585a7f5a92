"""Find images that look alike: every pair with similar 256-bit hashes, confirmed on a small grey grid.

The hash is dHash (N. Krawetz, "Kind of like that", 2013) on a grid of 17 x 16 with a margin. A bit is set if the cell
to the right is brighter by more than a small share of the image's own contrast, so that the noise of a compressed
black border sets no bits. Images of one kind (round cells on black) have similar bits even if they differ. So a pair
also needs matching grids, after brightness and contrast are normalised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

ROWS, COLUMNS, WORDS = 16, 17, 4
DISTANCE = 20  # of 256 bits
DIFFERENCE = 0.12  # root mean square between two grids of standard deviation 1
MARGIN = 0.05  # of the standard deviation of the grid
_PAIRS_AT_ONCE = 1 << 18  # a block of this size fits into the processor's cache


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """The fingerprint of one image: `words` uint64 [4] and `grid` float16 [272], mean 0 and standard deviation 1."""

    words: np.ndarray
    grid: np.ndarray


def likeness_of(image: Image.Image) -> Likeness:
    """Compute the likeness of an RGB image."""
    grid = np.asarray(image.convert("L").resize((COLUMNS, ROWS), Image.Resampling.BOX), dtype=np.float32)
    contrast = float(grid.std())
    rises = grid[:, 1:] - grid[:, :-1] > MARGIN * contrast  # [16, 16]
    spread = rises.reshape(WORDS, ROWS // WORDS, COLUMNS - 1).transpose(
        1, 0, 2
    )  # each word has bits from top to bottom
    even = (grid - grid.mean()) / max(contrast, 1.0)
    return Likeness(np.packbits(spread).view(np.uint64), even.astype(np.float16).ravel())


def alike(images: list[Likeness]) -> Iterator[np.ndarray]:
    """Yield all pairs i < j of images that look alike, in blocks of int64 [pairs, 2]."""
    if not images:
        return
    grids = np.stack([image.grid for image in images])  # [N, 272]
    for pairs in near_pairs(np.stack([image.words for image in images])):
        for part in np.array_split(pairs, max(1, len(pairs) >> 12)):
            difference = grids[part[:, 0]].astype(np.float32) - grids[part[:, 1]]
            same = np.sqrt(np.mean(difference * difference, axis=1)) <= DIFFERENCE
            if same.any():
                yield part[same]


def near_pairs(words: np.ndarray, distance: int = DISTANCE) -> Iterator[np.ndarray]:
    """Yield all pairs i < j of rows of `words` uint64 [N, 4] that differ in at most `distance` bits.

    They come in blocks of int64 [pairs, 2]. The first words of all pairs are compared by brute force, and the other
    words only if the first ones are similar enough.
    """
    count = len(words)
    first = np.ascontiguousarray(words[:, 0])
    start = 0
    while start < count - 1:
        rows = max(1, min(count - 1 - start, _PAIRS_AT_ONCE // (count - start)))
        bits = np.bitwise_count(first[start : start + rows, None] ^ first[None, start + 1 :])  # [rows, N - start - 1]
        at = np.flatnonzero(bits <= distance)
        i, j = np.divmod(at, count - start - 1)
        later = j >= i  # column j is image start + 1 + j
        i, j = i[later] + start, j[later] + start + 1
        near = np.bitwise_count(words[i] ^ words[j]).sum(axis=1, dtype=np.int64) <= distance
        if near.any():
            yield np.stack([i[near], j[near]], axis=1)
        start += rows
