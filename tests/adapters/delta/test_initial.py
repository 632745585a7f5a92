"""New deltas change nothing, and are drawn as their docstrings say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lensmount_adapters import Backbone
from lensmount_adapters.backbone.target import Layer
from lensmount_adapters.delta.initial import fresh_additive, fresh_low_rank, fresh_tucker
from lensmount_adapters.delta.kinds import (
    Delta,
)
from lensmount_adapters.delta.read import read_deltas


@pytest.fixture(scope="module")
def backbone(every_layer: Callable[..., Backbone]) -> Backbone:
    return every_layer()


def test_a_fresh_delta_is_zero_and_trainable_and_reads_back(backbone: Backbone) -> None:
    draw = torch.Generator().manual_seed(0)
    for target in backbone.targets.values():
        fresh: list[Delta] = (
            [fresh_additive(target)] if len(target.shape) == 1 else [fresh_low_rank(target, 2, 1.0, draw)]
        )
        if target.layer is Layer.CONV and len(target.shape) > 2:
            fresh.append(fresh_tucker(target, 2, 1.0, draw))
        for delta in fresh:
            assert torch.count_nonzero(delta.dense()) == 0
            assert delta.dense().shape == target.shape
            tensors = {name: tensor.requires_grad_() for name, tensor in delta.tensors().items()}
            (again,) = read_deltas(backbone.targets, tensors, {target.module: 1.0})
            assert type(again) is type(delta)
            again.dense().sum().backward()
            trained = [tensor for name, tensor in tensors.items() if name.endswith(("lora_B.weight", ".delta"))]
            assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in trained)
