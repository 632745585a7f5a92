"""Three layers for queries, keys and values in one library are one fused layer in another: rows [q; k; v]."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lensmount_adapters.formulas.parts import merged

_FACTORED = frozenset({"lora_A.weight", "lora_B.weight", "weight.row_scale", "bias.delta"})


def third_of(tensor: Tensor, third: int) -> Tensor:
    """The rows of q (0), k (1) or v (2) in a fused weight [3 d, in] or bias [3 d]."""
    return tensor.chunk(3)[third]


def joined(thirds: Mapping[int | None, Mapping[str, Tensor]], weight: Tensor) -> dict[str, Tensor]:
    """The deltas of the fused layer from those of its thirds; a third that is missing stays as it is.

    Factors stay factors: A is stacked [sum of r, in], and B is block diagonal [3 d, sum of r], so each third keeps its
    own. `weight` is the fused weight [3 d, in] in float64.
    """
    rows = len(weight) // 3
    deltas: dict[str, Tensor] = {}
    parts = [dict(thirds.get(third) or {}) for third in range(3)]
    if any("bias.delta" in part for part in parts):
        deltas["bias.delta"] = torch.cat([part.pop("bias.delta", weight.new_zeros(rows)) for part in parts])
    if not all(part.keys() <= _FACTORED for part in parts):
        changes = [merged(part, third_of(weight, third)) - third_of(weight, third) for third, part in enumerate(parts)]
        return deltas | {"weight.delta": torch.cat(changes)}
    if any("weight.row_scale" in part for part in parts):
        deltas["weight.row_scale"] = torch.cat([part.get("weight.row_scale", weight.new_ones(rows)) for part in parts])
    if any("lora_A.weight" in part for part in parts):
        A = [part.get("lora_A.weight", weight.new_zeros(0, weight.shape[1])) for part in parts]
        B = [part.get("lora_B.weight", weight.new_zeros(rows, 0)) for part in parts]
        deltas |= {"lora_A.weight": torch.cat(A), "lora_B.weight": _block_diagonal(B)}
    return deltas


def _block_diagonal(blocks: list[Tensor]) -> Tensor:
    joined: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]  # torch has no types for it
    return joined
