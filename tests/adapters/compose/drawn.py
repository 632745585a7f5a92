"""Adapters drawn at random for a small backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, Manifest, admit, dump_adapter
from lensmount_adapters.adapter.manifest import Factors, LinearHead


def adapter(
    backbone: Backbone, name: str, deltas: Mapping[str, Tensor], labels: tuple[str, ...] = ("a", "b"), **fields: Any
) -> Adapter:
    """An admitted adapter with these tensors, an alpha of 1.5 times the rank, and a random head."""
    draw = torch.Generator().manual_seed(len(name) + 7)
    modules = {
        key.removesuffix(".lora_B.weight"): Factors(rank=tensor.shape[1], alpha=1.5 * tensor.shape[1])
        for key, tensor in deltas.items()
        if key.endswith(".lora_B.weight")
    }
    manifest = Manifest(
        name=name,
        method="lora",
        backbone=backbone.ref,
        preprocessing=backbone.preprocessing,
        labels=labels,
        head=LinearHead(temperature=1.25),
        modules=modules,
        **fields,
    )
    head = {
        "head.weight": torch.randn(len(labels), backbone.feature_dim, generator=draw),
        "head.bias": torch.randn(len(labels), generator=draw),
    }
    return admit(dump_adapter(manifest, {**deltas, **head}, torch.float32), backbone)


def low_rank(backbone: Backbone, rank: int, *paths: str, seed: int = 0) -> dict[str, Tensor]:
    """Random factors for each of these layers."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for path in paths:
        out, *rest = backbone.targets[f"{path}.weight"].shape
        tensors[f"{path}.lora_A.weight"] = torch.randn(rank, *rest, generator=draw) * 0.1
        tensors[f"{path}.lora_B.weight"] = torch.randn(out, rank, *[1] * (len(rest) - 1), generator=draw) * 0.1
    return tensors


def live_weights(backbone: Backbone, *weighted: tuple[Adapter, float]) -> dict[str, Tensor]:
    """`W + sum w_i (merged_i - W)` of every changed tensor in float64, from the merged weights of each adapter."""
    live: dict[str, Tensor] = {}
    for source, weight in weighted:
        for delta in source.deltas:
            W = backbone.base([delta.target.name])[delta.target.name].double()
            live.setdefault(delta.target.name, W.clone()).add_(weight * (delta.merged(W.float()).double() - W))
    return live
