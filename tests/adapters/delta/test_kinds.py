"""Each kind of delta: dense and write agree, gradients reach the factors, and an error names the layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Backbone
from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.initial import fresh_low_rank
from lensmount_adapters.delta.kinds import (
    Delta,
    low_rank,
)
from lensmount_adapters.delta.read import read_deltas

METHODS = ["lora", "lora-shared", "lora-tucker", "bias", "norm", "statistics"]


@pytest.fixture(scope="module")
def backbone(every_layer: Callable[..., Backbone]) -> Backbone:
    return every_layer()


def deltas_of(backbone: Backbone, parts: Any) -> tuple[Delta, ...]:
    tensors = {name: tensor for name, tensor in parts.tensors.items() if not name.startswith("head.")}
    scales = {module: factors["alpha"] / factors["rank"] for module, factors in parts.manifest["modules"].items()}
    return read_deltas(backbone.targets, tensors, scales)


@pytest.mark.parametrize("method", METHODS)
def test_the_delta_is_that_of_float64(
    method: str,
    backbone: Backbone,
    draw_adapter: Callable[..., Any],
    merged64: Callable[[Backbone, Any, str], Tensor],
) -> None:
    parts = draw_adapter(backbone, method)
    deltas = deltas_of(backbone, parts)
    assert deltas
    for delta in deltas:
        name = delta.target.name
        expected = merged64(backbone, parts, name) - backbone.base([name])[name].double()
        dense = delta.merged(torch.zeros(delta.target.shape))
        assert dense.dtype is torch.float32
        assert (dense - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("method", METHODS)
def test_writing_reads_only_the_base_and_writes_only_the_live_tensor(
    method: str, backbone: Backbone, draw_adapter: Callable[..., Any]
) -> None:
    for delta in deltas_of(backbone, draw_adapter(backbone, method)):
        base = backbone.base([delta.target.name])[delta.target.name]
        stored = {name: tensor.clone() for name, tensor in delta.tensors().items()}
        before, live = base.clone(), torch.full_like(base, float("nan"))
        delta.write(base, live)
        assert torch.equal(base, before)
        assert all(torch.equal(stored[name], tensor) for name, tensor in delta.tensors().items())
        assert torch.allclose(live, delta.merged(base), rtol=1e-5, atol=1e-7)


def test_gradients_are_those_of_finite_differences() -> None:
    draw = torch.Generator().manual_seed(0)
    target = Target("grouped.weight", (4, 2, 3, 3), Layer.CONV, groups=2)
    delta = fresh_low_rank(target, 2, 0.5, draw)
    A, B = (torch.randn(t.shape, generator=draw) for t in delta.tensors().values())
    weight = torch.randn(target.shape, generator=draw)

    def loss(B: Tensor) -> Tensor:
        return (low_rank(target, A, B, 0.5).dense() * weight).sum()

    B.requires_grad_()
    loss(B).backward()
    with torch.no_grad():
        for i in range(B.numel()):  # linear in B, so a difference of 1 is exact up to rounding
            step = torch.zeros_like(B).view(-1)
            step[i] = 1.0
            assert B.grad is not None
            assert float(loss(B + step.view(B.shape)) - loss(B)) == pytest.approx(float(B.grad.view(-1)[i]), abs=1e-4)
