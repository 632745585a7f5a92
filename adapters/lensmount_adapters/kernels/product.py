"""`live = base + B @ A` of many weights in turn, by torch; grouped_merge.py does it in one launch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """A low-rank change of one weight: base [out, columns], B [out, r] and A [r, columns], contiguous and float32."""

    base: Tensor
    B: Tensor
    A: Tensor


def merge_each(products: Sequence[Product], lives: Sequence[Tensor]) -> None:
    """Write each sum to its `live` [out, columns], computed in float32 and rounded once to the dtype of `live`."""
    for product, live in zip(products, lives, strict=True):
        live.copy_(torch.addmm(product.base, product.B, product.A))


def in_memory_order(weight: Tensor) -> Tensor:
    """[out, ...] as a matrix [out, columns] whose columns are in the order of a weight with its channels last.

    A view if the weight lies so in memory, otherwise a copy.
    """
    last = (0, *range(2, weight.ndim), 1)
    return (weight.permute(last) if weight.ndim in (4, 5) else weight).reshape(len(weight), -1)
