"""Sizes and break-even ranks, compared with the tensors that are really made and counted."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Backbone
from lensmount_adapters.adapter.manifest import LinearHead
from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.initial import fresh_low_rank, fresh_tucker
from lensmount_adapters.delta.kinds import Delta, Tucker
from lensmount_adapters.delta.sizes import (
    full_size,
    low_rank_break_even,
    low_rank_size,
    takes_tucker,
    trained_size,
    tucker_break_even,
    tucker_crossover,
    tucker_size,
)
from lensmount_adapters.delta.targets import Selection
from lensmount_adapters.training.trainable import TrainableAdapter

CHANNELS = [(1, 1), (2, 5), (6, 3), (8, 8), (16, 4), (7, 30)]
KERNELS = [(1,), (5,), (1, 1), (3, 3), (3, 1), (7, 7), (3, 3, 3), (1, 3, 3)]
CONVOLUTIONS = [
    Target("layer.weight", (out, inputs, *kernel), Layer.CONV)
    for (out, inputs), kernel in itertools.product(CHANNELS, KERNELS)
]
GROUPED = [
    Target("layer.weight", (8, 1, 3, 3), Layer.CONV, groups=8),
    Target("layer.weight", (16, 1, 5, 5), Layer.CONV, groups=8),
    Target("layer.weight", (12, 4, 3, 1), Layer.CONV, groups=4),
    Target("layer.weight", (6, 3, 3, 3, 3), Layer.CONV, groups=2),
]
OTHERS = [
    Target("layer.weight", (12, 7), Layer.LINEAR),
    Target("layer.weight", (6, 8, 3, 3), Layer.CONV_TRANSPOSED),
    Target("layer.weight", (6, 4, 2, 2, 2), Layer.CONV_TRANSPOSED, groups=2),
]


def stored_numbers(make: Callable[..., Delta], target: Target, rank: int) -> int:
    return sum(tensor.numel() for tensor in make(target, rank, 1.0, torch.Generator()).tensors().values())


def lowest_rank(condition: Callable[[int], bool]) -> int:
    return next(rank for rank in itertools.count(1) if condition(rank))


@pytest.mark.parametrize("target", [*CONVOLUTIONS, *GROUPED, *OTHERS], ids=str)
def test_low_rank_sizes_and_break_even_are_those_of_the_tensors(target: Target) -> None:
    assert full_size(target) == torch.zeros(target.shape).numel()
    for rank in range(1, 9):
        assert low_rank_size(target, rank) == stored_numbers(fresh_low_rank, target, rank)
    assert low_rank_break_even(target) == lowest_rank(
        lambda r: stored_numbers(fresh_low_rank, target, r) >= full_size(target)
    )


@pytest.mark.parametrize("target", [*CONVOLUTIONS, *GROUPED], ids=str)
def test_tucker_sizes_and_break_even_are_those_of_the_tensors(target: Target) -> None:
    for rank in range(1, 9):
        assert tucker_size(target, rank) == stored_numbers(fresh_tucker, target, rank)
    assert tucker_break_even(target) == lowest_rank(
        lambda r: stored_numbers(fresh_tucker, target, r) >= full_size(target)
    )


@pytest.mark.parametrize("target", [*(t for t in CONVOLUTIONS if takes_tucker(t)), *GROUPED], ids=str)
def test_below_the_crossover_tucker_is_smaller_and_from_it_on_it_is_not(target: Target) -> None:
    crossover = tucker_crossover(target)
    for rank in range(1, crossover + 10):
        smaller = stored_numbers(fresh_tucker, target, rank) < stored_numbers(fresh_low_rank, target, rank)
        assert smaller == (rank < crossover)


def test_a_pointwise_convolution_never_gains_from_tucker() -> None:
    target = Target("layer.weight", (64, 64, 1, 1), Layer.CONV)
    assert tucker_crossover(target) == 0
    assert not takes_tucker(target)
    assert trained_size(target, 4, tucker=True) == trained_size(target, 4, tucker=False) == 4 * (64 + 64)


def test_the_figures_of_a_512_to_512_3x3_convolution() -> None:
    """By hand: 512 * 512 * 9; r (512 * 9 + 512); 2 * 512 r + 9 r^2."""
    target = Target("features.24.weight", (512, 512, 3, 3), Layer.CONV)
    assert full_size(target) == 2_359_296
    assert (low_rank_size(target, 8), tucker_size(target, 8)) == (40_960, 8_768)
    assert (low_rank_break_even(target), tucker_break_even(target), tucker_crossover(target)) == (461, 459, 456)


@pytest.mark.parametrize("tucker", [False, True])
@pytest.mark.parametrize("rank", [2, 64])
def test_what_training_stores_is_what_is_counted(small_backbone: Backbone, rank: int, tucker: bool) -> None:
    targets = tuple(t for t in small_backbone.targets.values() if t.layer in (Layer.CONV, Layer.LINEAR))
    weights = tuple(target for target in targets if target.name.endswith(".weight"))
    adapter = TrainableAdapter(
        small_backbone, Selection(weights, (), tucker), rank=rank, alpha=1.0, head=LinearHead(), classes=2, seed=0
    )
    stored = sum(tensor.numel() for tensor in adapter.factors.values())
    assert stored == sum(trained_size(target, rank, tucker=tucker) for target in weights)


@pytest.mark.parametrize("kernel", [(3,), (3, 2), (2, 3, 2)], ids=str)
def test_the_recomposed_tucker_kernel_is_that_of_the_loops(kernel: tuple[int, ...]) -> None:
    """The source's loops: for each output, input and position, the sum over both ranks of B[o,p] mid[p,q,k] A[q,i]."""
    outputs, inputs, rank = 4, 3, 2
    target = Target("layer.weight", (outputs, inputs, *kernel), Layer.CONV)
    ones = [1] * len(kernel)
    draw = torch.Generator().manual_seed(0)
    A = torch.randn(rank, inputs, *ones, generator=draw)
    mid = torch.randn(rank, rank, *kernel, generator=draw)
    B = torch.randn(outputs, rank, *ones, generator=draw)
    expected = recomposed(A.double().flatten(1), mid.double(), B.double().flatten(1), target.shape)
    found = Tucker(target, A, mid, B, scale=0.5).dense()
    assert found.shape == target.shape
    assert torch.allclose(found.double(), 0.5 * expected, rtol=0, atol=1e-6)


def recomposed(A: Tensor, mid: Tensor, B: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A: [r, in], mid: [r, r, *k], B: [out, r]."""
    outputs, inputs, *kernel = shape
    rank = A.shape[0]
    weight = torch.zeros(shape, dtype=torch.float64)
    for o in range(outputs):
        for i in range(inputs):
            for k in itertools.product(*(range(side) for side in kernel)):
                for p in range(rank):
                    for q in range(rank):
                        weight[(o, i, *k)] += B[o, p] * mid[(p, q, *k)] * A[q, i]
    return weight
