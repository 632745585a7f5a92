"""New deltas change nothing, and are drawn as their docstrings say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lensmount_adapters import Backbone
from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.initial import fresh_additive, fresh_low_rank, fresh_tucker
from lensmount_adapters.delta.kinds import GroupedLowRank, LowRank, Sum, TransposedLowRank
from lensmount_adapters.delta.read import read_deltas


@pytest.fixture(scope="module")
def backbone(every_layer: Callable[..., Backbone]) -> Backbone:
    return every_layer()


def test_a_fresh_delta_is_zero_and_trainable_and_reads_back(backbone: Backbone) -> None:
    draw = torch.Generator().manual_seed(0)
    for target in backbone.targets.values():
        fresh: list[Sum] = (
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
            again.merged(torch.zeros(target.shape)).sum().backward()
            trained = [tensor for name, tensor in tensors.items() if name.endswith(("lora_B.weight", ".delta"))]
            assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in trained)


CONV = Target("conv.weight", (6, 4, 3, 3), Layer.CONV)


def test_a_is_uniform_within_the_bound_of_a_linear_layer_or_normal_with_the_given_spread() -> None:
    """Kaiming uniform as nn.Linear has it: the bound is one over the root of the inputs, here 4 * 3 * 3."""
    draw = torch.Generator().manual_seed(0)
    uniform = fresh_low_rank(CONV, 200, 1.0, draw).tensors()["conv.lora_A.weight"]
    normal = fresh_low_rank(CONV, 200, 1.0, draw, std=0.25).tensors()["conv.lora_A.weight"]

    assert uniform.abs().max() <= 1 / 6
    assert float(uniform.std()) == pytest.approx((1 / 6) / 3**0.5, rel=0.05)
    assert float(normal.std()) == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize("fresh", [fresh_low_rank, fresh_tucker])
def test_b_is_drawn_with_the_spread_that_is_asked_for(fresh: Callable[..., Sum]) -> None:
    drawn = fresh(CONV, 500, 1.0, torch.Generator().manual_seed(0), None, 0.5).tensors()["conv.lora_B.weight"]

    assert float(drawn.std()) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    ("target", "kind", "A", "B"),
    [
        (Target("a.weight", (6, 4), Layer.LINEAR), LowRank, (2, 4), (6, 2)),
        (CONV, LowRank, (2, 4, 3, 3), (6, 2, 1, 1)),
        (Target("a.weight", (6, 2, 3), Layer.CONV, groups=3), GroupedLowRank, (6, 2, 3), (6, 2, 1)),
        (Target("a.weight", (4, 2, 3), Layer.CONV_TRANSPOSED, groups=3), TransposedLowRank, (4, 2, 3), (6, 2, 1)),
    ],
    ids=lambda value: value.layer if isinstance(value, Target) else "",
)
def test_the_kind_and_the_shapes_follow_the_layer(
    target: Target, kind: type[Sum], A: tuple[int, ...], B: tuple[int, ...]
) -> None:
    delta = fresh_low_rank(target, 2, 1.0, torch.Generator().manual_seed(0))

    assert type(delta) is kind
    assert [tuple(tensor.shape) for tensor in delta.tensors().values()] == [A, B]


def test_the_same_generator_draws_the_same_delta() -> None:
    one, other = (fresh_low_rank(CONV, 2, 1.0, torch.Generator().manual_seed(3)).tensors() for _ in range(2))

    assert all(torch.equal(one[name], other[name]) for name in one)
