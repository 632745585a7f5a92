"""The singular values of a change of one weight, and the factors that keep the largest of them.

They are computed from the Gram matrix of the shorter side, in float64: its eigenvectors U give `U_r U_r^T D`, the best
approximation of rank r (Eckart and Young, 1936), whose error is the root of the sum of the squares left out. Singular
values below 1e-7 of the largest are lost in rounding, as they would be in a file of float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST = 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """`values` [n]: singular values of D, the largest first; `vectors`: its singular vectors on the shorter side."""

    values: Tensor
    vectors: Tensor  # [min(out, columns), n]
    shape: tuple[int, int]  # of D

    @classmethod
    def of(cls, D: Tensor) -> Spectrum:
        """Of a matrix [out, columns] in float64 that is not zero."""
        squares, vectors = torch.linalg.eigh(D.mT @ D if _is_tall(D) else D @ D.mT)  # the smallest first
        values = squares.flip(0).clamp(min=0).sqrt()
        count = int((values > SMALLEST * values[0]).sum())
        kept = vectors.flip(1)[:, :count].contiguous()
        return cls(values[:count], kept, (D.shape[0], D.shape[1]))

    def factors(self, D: Tensor, rank: int) -> tuple[Tensor, Tensor]:
        """B [out, rank] and A [rank, columns] with `B @ A` closest to D; each rank is as long in B as in A."""
        kept, root = self.vectors[:, :rank], self.values[:rank].sqrt()
        if _is_tall(D):
            return (D @ kept) / root, root[:, None] * kept.mT
        return kept * root, (kept.mT @ D) / root[:, None]

    def rank_for(self, energy: float) -> int:
        """The smallest rank that keeps this share of the sum of squares."""
        squares = self.values.square()
        kept = squares.cumsum(0) / squares.sum()
        return min(int((kept < energy).sum()) + 1, len(squares))


def _is_tall(D: Tensor) -> bool:
    return D.shape[0] > D.shape[1]
