"""Occlusion: how far a label's score falls when a part of the image is covered. It needs no map, only scores.

A square of two cells by two moves over a grid of cells, one cell at a time. It covers the image with 0, the mean colour
of the preprocessing. A cell's value is the mean fall over the squares that cover it.

Zeiler and Fergus, arXiv 1311.2901.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lensmount_adapters.explain.method import carry_on
from lensmount_adapters.explain.network import AdaptedNetwork

CELLS = 8  # on each side of the grid
COVERED = 2  # cells on each side of the square
AT_ONCE = 8  # images in one forward pass


class Occlusion:
    """`Occlusion().values(network, image, label)`: 50 forward passes, eight images at a time."""

    passes = 1 + (CELLS - COVERED + 1) ** 2

    def values(
        self, network: AdaptedNetwork, image: Tensor, label: int, proceed: Callable[[], None] = carry_on
    ) -> Tensor:
        rows, columns = (_edges(side) for side in image.shape[1:])
        places = [(i, j) for i in range(len(rows) - COVERED) for j in range(len(columns) - COVERED)]
        score = float(network.scores(image[None])[0, label])
        fall = torch.zeros(len(rows) - 1, len(columns) - 1)
        covers = torch.zeros_like(fall)
        for start in range(0, len(places), AT_ONCE):
            proceed()
            chosen = places[start : start + AT_ONCE]
            covered = image.repeat(len(chosen), 1, 1, 1)
            for each, (i, j) in zip(covered, chosen, strict=True):
                each[:, rows[i] : rows[i + COVERED], columns[j] : columns[j + COVERED]] = 0
            for (i, j), left in zip(chosen, network.scores(covered)[:, label].tolist(), strict=True):
                fall[i : i + COVERED, j : j + COVERED] += score - left
                covers[i : i + COVERED, j : j + COVERED] += 1
        return fall / covers


def _edges(side: int) -> list[int]:
    """Where the cells of a side of this many pixels begin, and where the last one ends."""
    return [round(cell * side / CELLS) for cell in range(CELLS + 1)]
