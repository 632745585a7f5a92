"""All weights that an adapter changes in a single launch: `live = base + B @ A`, rounded once.

The weights have different sizes, so the launch is over tiles of all of them, and two tables say which tile is where
(grouped GEMM). Each number of the base is read once and each of `live` is written once. The products are sums of
float32 multiplications in a fixed order, never TF32, so the bits do not depend on what `live` contained before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from lensmount_adapters.kernels.product import Product

ROWS, COLUMNS = 16, 128  # of a tile


class GroupedMerge:
    """`GroupedMerge(products, lives)()`. The tensors stay where they are: the tables have their addresses.

    lives: [out, columns], contiguous, all of one dtype.
    """

    def __init__(self, products: Sequence[Product], lives: Sequence[Tensor]) -> None:
        self._kept = (tuple(products), tuple(lives))  # so that no address is used after its memory was freed
        device = lives[0].device
        tensors = [(p.base, p.B, p.A, live) for p, live in zip(products, lives, strict=True)]
        layers = [[*(t.data_ptr() for t in four), *four[0].shape, four[1].shape[1]] for four in tensors]
        tiles = [
            [layer, row, column]
            for layer, (base, *_) in enumerate(tensors)
            for row in range(0, base.shape[0], ROWS)
            for column in range(0, base.shape[1], COLUMNS)
        ]
        self._layers = torch.tensor(layers, dtype=torch.int64).to(device)
        self._tiles = torch.tensor(tiles, dtype=torch.int32).to(device)
        self._dtype = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}[
            lives[0].dtype
        ]

    def __call__(self) -> None:
        _merge[(len(self._tiles),)](self._tiles, self._layers, self._dtype, ROWS, COLUMNS)


@triton.jit  # type: ignore[untyped-decorator]  # triton's
def _merge(tiles, layers, LIVE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]  # compiled by triton
    tile = tiles + 3 * tl.program_id(0)
    layer = layers + 7 * tl.load(tile)
    base = tl.load(layer).to(tl.pointer_type(tl.float32))
    B = tl.load(layer + 1).to(tl.pointer_type(tl.float32))
    A = tl.load(layer + 2).to(tl.pointer_type(tl.float32))
    live = tl.load(layer + 3).to(tl.pointer_type(LIVE))
    rows, columns, rank = tl.load(layer + 4), tl.load(layer + 5), tl.load(layer + 6)
    row = tl.load(tile + 1) + tl.arange(0, ROWS)
    column = tl.load(tile + 2) + tl.arange(0, COLUMNS)
    inside = (row[:, None] < rows) & (column[None, :] < columns)
    at = row[:, None] * columns + column[None, :]
    total = tl.load(base + at, mask=inside, other=0.0)
    for r in range(rank):
        b = tl.load(B + row * rank + r, mask=row < rows, other=0.0)
        a = tl.load(A + r * columns + column, mask=column < columns, other=0.0)
        total += b[:, None] * a[None, :]
    tl.store(live + at, total.to(LIVE), mask=inside)
