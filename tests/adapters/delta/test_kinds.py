"""Each kind of delta: dense and write agree, gradients reach the factors, and an error names the layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Backbone
from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.initial import fresh_additive, fresh_low_rank, fresh_tucker
from lensmount_adapters.delta.kinds import (
    Additive,
    Delta,
    GroupedLowRank,
    LowRank,
    TransposedLowRank,
    Tucker,
    low_rank,
)
from lensmount_adapters.delta.read import read_deltas
from lensmount_adapters.errors import AdapterInvalid

METHODS = ["lora", "lora-shared", "lora-tucker", "bias", "norm", "statistics"]


@pytest.fixture(scope="module")
def backbone(every_layer: Callable[..., Backbone]) -> Backbone:
    return every_layer()


def deltas_of(backbone: Backbone, parts: Any) -> tuple[Delta, ...]:
    tensors = {name: tensor for name, tensor in parts.tensors.items() if not name.startswith("head.")}
    scales = {module: factors["alpha"] / factors["rank"] for module, factors in parts.manifest["modules"].items()}
    return read_deltas(backbone.targets, tensors, scales)


@pytest.mark.parametrize("method", METHODS)
def test_dense_is_the_delta_of_float64(
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
        assert delta.dense().dtype is torch.float32
        assert (delta.dense() - expected).abs().max() <= 1e-6 * expected.abs().max()


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
        assert torch.allclose(live, base + delta.dense(), rtol=1e-5, atol=1e-7)


def test_each_layer_gets_its_class(backbone: Backbone, draw_adapter: Callable[..., Any]) -> None:
    kinds = {d.target.module: type(d) for d in deltas_of(backbone, draw_adapter(backbone))}
    assert kinds["linear"] is kinds["conv2d"] is kinds["conv3d"] is LowRank
    assert kinds["depthwise"] is kinds["grouped"] is kinds["conv1d"] is GroupedLowRank
    assert kinds["transposed1d"] is kinds["transposed2d"] is kinds["transposed3d"] is TransposedLowRank
    shared = {d.target.module: type(d) for d in deltas_of(backbone, draw_adapter(backbone, "lora-shared"))}
    assert shared["depthwise"] is LowRank
    tucker = {d.target.module: type(d) for d in deltas_of(backbone, draw_adapter(backbone, "lora-tucker"))}
    assert tucker["conv3d"] is tucker["grouped"] is Tucker
    assert {type(d) for d in deltas_of(backbone, draw_adapter(backbone, "norm"))} == {Additive}


def test_reading_stored_tensors_gives_the_same_tensors_back(
    backbone: Backbone, draw_adapter: Callable[..., Any]
) -> None:
    parts = draw_adapter(backbone, "mixed")
    written = {name: tensor for delta in deltas_of(backbone, parts) for name, tensor in delta.tensors().items()}
    assert written.keys() == {name for name in parts.tensors if not name.startswith("head.")}
    assert all(torch.equal(parts.tensors[name], tensor) for name, tensor in written.items())


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


def test_an_error_names_the_layer_and_the_found_and_expected_shapes(backbone: Backbone) -> None:
    tensors = {"conv2d.lora_A.weight": torch.ones(8, 4, 3, 3), "conv2d.lora_B.weight": torch.ones(8, 8, 1, 1)}
    with pytest.raises(AdapterInvalid, match=r"conv2d: found lora_A .*\[8, 4, 3, 3\], expected \[8, 3, 3, 3\].*Fix"):
        read_deltas(backbone.targets, tensors, {"conv2d": 1.0})
