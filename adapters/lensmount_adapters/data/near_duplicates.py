"""Find images that look alike, mirrored and turned ones too: pairs with similar 256-bit hashes and small grey grids.

The hash is dHash (N. Krawetz, "Kind of like that", 2013) on a grid of 17 x 17 with a margin. A bit is set if the cell
to the right is brighter by more than a small share of the image's own contrast, so that the noise of a compressed
black border sets no bits. Images of one kind (round cells on black) have similar bits even if they differ. So a pair
also needs matching grids, after brightness and contrast are normalised. One image of each pair is compared in the
eight orientations that mirroring and quarter turns give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE, WORDS = 17, 4
ORIENTATIONS = 8  # the first is the image as it is
DISTANCE = 20  # of 256 bits
DIFFERENCE = 0.12  # root mean square between two grids of standard deviation 1
MARGIN = 0.05  # of the standard deviation of the grid
_PAIRS_AT_ONCE = 1 << 18  # a block of this size fits into the processor's cache


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """The fingerprint of one image: `grid` float16 [17, 17], mean 0 and standard deviation 1."""

    grid: np.ndarray


def likeness_of(image: Image.Image) -> Likeness:
    """Compute the likeness of an RGB image."""
    grid = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)
    return Likeness(((grid - grid.mean()) / max(float(grid.std()), 1.0)).astype(np.float16))


def alike(images: list[Likeness]) -> Iterator[np.ndarray]:
    """Yield all pairs i < j of images that look alike, in blocks of int64 [pairs, 3], each pair once.

    The third column is the orientation in which image j looks like image i: 0 is as it is, 1 to 7 mirrored or turned.
    """
    if not images:
        return
    grids = np.stack([image.grid for image in images])  # [N, 17, 17]
    for pairs in near_pairs([_words(_turned(grids, orientation)) for orientation in range(ORIENTATIONS)]):
        yield from (part for part in _confirmed(grids, pairs) if len(part))


def _confirmed(grids: np.ndarray, pairs: np.ndarray) -> Iterator[np.ndarray]:
    """The pairs whose grids match, each in its first orientation. All rows of one pair (i, j) are adjacent."""
    seen = np.zeros((0, 3), np.int64)
    for part in np.array_split(pairs, max(1, len(pairs) >> 12)):
        same = np.zeros(len(part), bool)
        for orientation in np.unique(part[:, 2]):
            rows = np.flatnonzero(part[:, 2] == orientation)
            turned = _turned(grids[part[rows, 1]], int(orientation)).astype(np.float32)
            difference = grids[part[rows, 0]] - turned
            same[rows] = np.sqrt(np.mean(difference * difference, axis=(1, 2))) <= DIFFERENCE
        found = np.concatenate([seen, part[same]])
        first = np.append(True, (found[1:, :2] != found[:-1, :2]).any(axis=1))[: len(found)]
        first[: len(seen)] = False  # was yielded before
        yield found[first]
        seen = found[-1:]


def _turned(grids: np.ndarray, orientation: int) -> np.ndarray:
    """Grids [N, 17, 17] in one of the eight orientations: 0 to 3 quarter turns, from 4 on of the mirrored grid."""
    return np.rot90(grids[:, :, ::-1] if orientation >= 4 else grids, orientation % 4, axes=(1, 2))


def _words(grids: np.ndarray) -> np.ndarray:
    """The hashes uint64 [N, 4] of grids [N, 17, 17]."""
    even = grids[:, : SIDE - 1].astype(np.float32)  # [N, 16, 17]
    rises = even[:, :, 1:] - even[:, :, :-1] > MARGIN * grids.std(axis=(1, 2), dtype=np.float32)[:, None, None]
    spread = rises.reshape(len(grids), WORDS, -1, SIDE - 1).transpose(0, 2, 1, 3)  # each word has bits from all over
    return np.packbits(spread.reshape(len(grids), -1), axis=1).view(np.uint64)


def near_pairs(orientations: Sequence[np.ndarray], distance: int = DISTANCE) -> Iterator[np.ndarray]:
    """Yield all i < j where row i of the first array and row j of array k differ in at most `distance` bits.

    The arrays are uint64 [N, 4]. The rows (i, j, k) come sorted, in blocks of int64 [found, 3]. The first words of all
    pairs are compared by brute force, and the other words only if the first ones are similar enough.
    """
    words = orientations[0]
    count = len(words)
    firsts = [np.ascontiguousarray(turned[:, 0]) for turned in orientations]
    start = 0
    while start < count - 1:
        rows = max(1, min(count - 1 - start, _PAIRS_AT_ONCE // (count - start)))
        found = []
        for k, turned in enumerate(orientations):
            bits = np.bitwise_count(firsts[0][start : start + rows, None] ^ firsts[k][None, start + 1 :])
            at = np.flatnonzero(bits <= distance)  # of [rows, N - start - 1]
            i, j = np.divmod(at, count - start - 1)
            later = j >= i  # column j is image start + 1 + j
            i, j = i[later] + start, j[later] + start + 1
            near = np.bitwise_count(words[i] ^ turned[j]).sum(axis=1, dtype=np.int64) <= distance
            found.append(np.stack([i[near], j[near], np.full(int(near.sum()), k)], axis=1))
        block = np.concatenate(found)
        if len(block):
            yield block[np.lexsort((block[:, 2], block[:, 1], block[:, 0]))]
        start += rows
