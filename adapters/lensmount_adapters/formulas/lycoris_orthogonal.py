"""The methods of LyCORIS that rotate a layer's outputs: diagonal OFT and BOFT, read from their files.

Sources: OFT, arXiv 2306.07280; BOFT, arXiv 2311.06243. Both change the whole weight, so the delta is a full one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.formulas.module import ForeignModule
from lensmount_adapters.formulas.parts import sizes, take


class OFT:
    """`rescale * R W - W`. R is orthogonal: blocks [n, b, b] on groups of rows, or [m, n, b, b] for the stages of BOFT.

    A file of BOFT has the same names; the blocks have one dimension more.
    """

    name = "OFT"
    reads = frozenset({"oft_blocks", "rescale", "alpha"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, _, _ = sizes(module)
        rows = module.weight.flatten(1)  # [out, in * k]
        R = self._rotations(module, out)
        turned = _butterfly(R, rows) if R.ndim == 4 else _blockwise(R.mT, rows)
        if "rescale" in module.parts:
            turned = take(module, "rescale", out, 1) * turned
        return {"weight.delta": (turned - rows).reshape(module.weight.shape)}

    def _rotations(self, module: ForeignModule, out: int) -> Tensor:
        """Cayley's transform of the skew blocks: `(1 + Q) / (1 - Q)` with `Q = B - B^T`, at most `alpha * out` long."""
        stored = module.parts["oft_blocks"].shape
        if len(stored) not in (3, 4) or stored[-1] != stored[-2] or stored[-3] * stored[-1] != out or _wide(stored):
            raise AdapterInvalid(
                f"{module.name}: found oft_blocks of shape {list(stored)}, expected [n, b, b] or [m, n, b, b] with "
                f"n * b = {out} outputs. Fix: import it for the backbone that it was trained on",
                code="adapter_shape_mismatch",
            )
        blocks = take(module, "oft_blocks", *stored)
        Q = blocks - blocks.mT
        longest = out * float(take(module, "alpha", 1)) if "alpha" in module.parts else 0.0
        if longest > 0 and (length := float(Q.norm()) + 1e-8) > longest:
            Q = Q * (longest / length)
        eye = torch.eye(stored[-1], dtype=torch.float64)
        R: Tensor = (eye + Q) @ torch.linalg.inv(eye - Q)
        return R


def _blockwise(R: Tensor, rows: Tensor) -> Tensor:
    """R [n, b, b] times the n groups of b rows of [n * b, columns]."""
    return torch.einsum("kmn,knc->kmc", R, rows.reshape(*R.shape[:2], -1)).reshape(rows.shape)


def _butterfly(R: Tensor, rows: Tensor) -> Tensor:
    """Apply the stages R [m, n, b, b] in turn; stage i rotates groups of rows that are 2^i * b/2 apart."""
    for stage, blocks in enumerate(R):
        apart = 2**stage * R.shape[-1] // 2
        mixed = rows.reshape(-1, 2, apart, rows.shape[1]).transpose(1, 2).reshape(rows.shape)
        mixed = _blockwise(blocks, mixed)
        rows = mixed.reshape(-1, apart, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)
    return rows


def _wide(shape: torch.Size) -> bool:
    """Return True for stages whose distances do not divide the number of rows."""
    if len(shape) == 3:
        return False
    stages, blocks, size, _ = shape
    return bool(size % 2) or stages > 32 or blocks * size % (2**stages * size // 2) != 0
