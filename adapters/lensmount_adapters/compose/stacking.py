"""Weighted sums of deltas of one tensor: low-rank factors are stacked, `sum w_i B_i A_i = [w_i B_i] [A_i]`.

Deltas of other forms, such as factors of separate groups and row scales, become one full delta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lensmount_adapters.adapter.manifest import Factors
from lensmount_adapters.adapter.schema import MAX_RANK_OF_VERSION_1
from lensmount_adapters.backbone.target import Target
from lensmount_adapters.delta.kinds import Delta, GroupedLowRank, LowRank, Sum, TransposedLowRank, Tucker
from lensmount_adapters.delta.scaled import Scaled, by_input, by_output

MAX_ALPHA = 1e6  # of a manifest


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """Tensors of an adapter file for one target, and the rank and alpha of its factors, if it has factors."""

    tensors: dict[str, Tensor]
    factors: Factors | None = None


def change(delta: Delta, base: Tensor) -> Tensor:
    """`live - base` in float64, on the CPU; `base` is the target's weight."""
    if isinstance(delta, Scaled):
        W = base.detach().to("cpu", torch.float64)
        live = W if delta.inner is None else W + change(delta.inner, base)
        if delta.row_scale is not None:
            live = live * by_output(delta.target, delta.row_scale.to("cpu", torch.float64))
        if delta.column_scale is not None:
            live = live * by_input(delta.target, delta.column_scale.to("cpu", torch.float64))
        return live - W
    if isinstance(delta, LowRank):
        B, A = (factor.detach().to("cpu", torch.float64).flatten(1) for factor in (delta.B, delta.A))
        return (delta.scale * (B @ A)).view(delta.target.shape)
    added: Sum = delta  # type: ignore[assignment]  # every other kind is a Sum
    return added.dense().detach().to("cpu", torch.float64)


def weighted_sum(deltas: Sequence[tuple[Delta, float]], base: Tensor) -> Stored:
    """`sum w_i D_i` of deltas of one target, as the file stores it: exact, and of low rank where it can be."""
    target = deltas[0][0].target
    if len(deltas) == 1 and (stored := _one(*deltas[0])) is not None:
        return stored
    folded = [(delta.folded() if isinstance(delta, Tucker) else delta, weight) for delta, weight in deltas]
    low = [(delta, weight) for delta, weight in folded if isinstance(delta, LowRank)]
    rank = sum(delta.rank for delta, _ in low)
    larger = rank * (target.shape[0] + base[0].numel()) >= base.numel() if base.ndim else True
    if len(low) == len(deltas) and not (rank > MAX_RANK_OF_VERSION_1 and larger):
        B = torch.cat([weight * delta.scale * delta.B.double() for delta, weight in low], dim=1)
        A = torch.cat([delta.A.double().reshape(-1, *target.shape[1:]) for delta, _ in low])
        return Stored(_named(target, A, B), Factors(rank=rank, alpha=rank))
    added = torch.stack([weight * change(delta, base) for delta, weight in deltas]).sum(0)
    return Stored({f"{target.name}.delta": added})


def _one(delta: Delta, weight: float) -> Stored | None:
    """One delta times its weight in the same form, or None if this form cannot be multiplied."""
    if isinstance(delta, _FACTORED) and abs(weight * delta.scale * delta.rank) <= MAX_ALPHA:
        return Stored(delta.tensors(), _factors(delta, weight))
    if isinstance(delta, Scaled) and weight == 1:
        inner = delta.inner
        return Stored(delta.tensors(), _factors(inner, 1) if isinstance(inner, _FACTORED) else None)
    return None


_FACTORED = (LowRank, GroupedLowRank, TransposedLowRank, Tucker)


def _factors(delta: LowRank | GroupedLowRank | TransposedLowRank | Tucker, weight: float) -> Factors:
    return Factors(rank=delta.rank, alpha=weight * delta.scale * delta.rank)


def _named(target: Target, A: Tensor, B: Tensor) -> dict[str, Tensor]:
    return {f"{target.path}.lora_A.weight": A, f"{target.path}.lora_B.weight": B}
