"""Weighted sums of deltas of every kind keep their form where they can, and are exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lensmount_adapters.adapter.manifest import Factors
from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.compose.stacking import change, weighted_sum
from lensmount_adapters.delta.kinds import (
    Additive,
    Delta,
    GroupedLowRank,
    LowRank,
    TransposedLowRank,
    Tucker,
)
from lensmount_adapters.delta.read import read_deltas
from lensmount_adapters.delta.scaled import Scaled

CONV = Target("layer.weight", (8, 6, 3, 3), Layer.CONV)
GROUPED = Target("layer.weight", (8, 3, 3, 3), Layer.CONV, 2)
TRANSPOSED = Target("layer.weight", (6, 8, 3, 3), Layer.CONV_TRANSPOSED)
VECTOR = Target("layer.bias", (8,), Layer.CONV)


def low(rank: int = 2, scale: float = 1.5) -> LowRank:
    return LowRank(CONV, torch.randn(rank, 6, 3, 3), torch.randn(8, rank, 1, 1), scale)


def tucker(rank: int = 2) -> Tucker:
    return Tucker(CONV, torch.randn(rank, 6, 1, 1), torch.randn(rank, rank, 3, 3), torch.randn(8, rank, 1, 1), 0.5)


def grouped() -> GroupedLowRank:
    return GroupedLowRank(GROUPED, torch.randn(4, 3, 3, 3), torch.randn(8, 2, 1, 1), 2)


def transposed() -> TransposedLowRank:
    return TransposedLowRank(TRANSPOSED, torch.randn(6, 2, 3, 3), torch.randn(8, 2, 1, 1), 2)


def scaled(inner: Delta | None = None, columns: bool = True) -> Scaled:
    return Scaled(CONV, inner, torch.rand(8), torch.rand(6) if columns else None)


CASES: dict[str, tuple[list[tuple[Delta, float]], set[str]]] = {
    "one low-rank delta keeps its factors": ([(low(), 0.7)], {"lora_A.weight", "lora_B.weight"}),
    "one Tucker delta keeps its three factors": (
        [(tucker(), 0.7)],
        {"lora_A.weight", "lora_mid.weight", "lora_B.weight"},
    ),
    "one delta of groups keeps its factors": ([(grouped(), -0.5)], {"lora_A.weight", "lora_B.weight"}),
    "one transposed delta keeps its factors": ([(transposed(), 2)], {"lora_A.weight", "lora_B.weight"}),
    "low-rank deltas are stacked": (
        [(low(2), 0.7), (low(3, 0.2), 0.3), (low(1), -1)],
        {"lora_A.weight", "lora_B.weight"},
    ),
    "Tucker and low rank are stacked": ([(tucker(), 0.7), (low(), 0.3)], {"lora_A.weight", "lora_B.weight"}),
    "deltas of groups are added": ([(grouped(), 0.7), (grouped(), 0.3)], {"weight.delta"}),
    "transposed deltas are added": ([(transposed(), 0.7), (transposed(), 0.3)], {"weight.delta"}),
    "one scale of weight 1 is kept": (
        [(scaled(low()), 1)],
        {"weight.row_scale", "weight.column_scale", "lora_A.weight", "lora_B.weight"},
    ),
    "one scale without a delta is kept": ([(scaled(), 1)], {"weight.row_scale", "weight.column_scale"}),
    "a weighted scale is added": ([(scaled(low(), columns=False), 0.5)], {"weight.delta"}),
    "a scale and low rank are added": ([(scaled(), 0.5), (low(), 0.5)], {"weight.delta"}),
    "full deltas are added": (
        [(Additive(CONV, torch.randn(8, 6, 3, 3)), 0.5), (Additive(CONV, torch.randn(8, 6, 3, 3)), 2)],
        {"weight.delta"},
    ),
    "one full delta is multiplied": ([(Additive(CONV, torch.randn(8, 6, 3, 3)), 0.5)], {"weight.delta"}),
    "vectors are added": (
        [(Additive(VECTOR, torch.randn(8)), 0.5), (Additive(VECTOR, torch.randn(8)), 2)],
        {"bias.delta"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_weighted_sum_is_exact_in_the_form_that_it_can_have(case: str) -> None:
    deltas, names = CASES[case]
    target = deltas[0][0].target
    base = torch.randn(target.shape)
    expected = torch.stack([weight * (delta.merged(base).double() - base.double()) for delta, weight in deltas]).sum(0)

    stored = weighted_sum(deltas, base)

    assert {name.removeprefix("layer.") for name in stored.tensors} == names
    (found,) = read_back(target, stored.tensors, stored.factors)
    assert torch.allclose(change(found, base), expected, rtol=1e-5, atol=1e-6)


def test_an_alpha_beyond_the_manifest_s_goes_into_the_factor() -> None:
    delta = low(2, 1e3)

    stored = weighted_sum([(delta, 1e4)], torch.zeros(CONV.shape))

    assert stored.factors == Factors(rank=2, alpha=2)
    (found,) = read_back(CONV, stored.tensors, stored.factors)
    assert torch.allclose(change(found, torch.zeros(CONV.shape)), 1e4 * delta.dense().double(), rtol=1e-5)


def read_back(target: Target, tensors: dict[str, Tensor], factors: Factors | None) -> tuple[Delta, ...]:
    return read_deltas({target.name: target}, tensors, {} if factors is None else {target.path: factors.scale})


@pytest.mark.parametrize(("rank", "form"), [(128, "layer.lora_B.weight"), (129, "layer.weight.delta")])
def test_factors_above_rank_256_that_are_larger_than_the_weight_become_one_full_delta(rank: int, form: str) -> None:
    assert form in weighted_sum([(low(rank), 1), (low(rank), 1)], torch.zeros(CONV.shape)).tensors


def test_the_change_of_each_kind_is_what_merging_adds() -> None:
    for delta in (low(), tucker(), grouped(), transposed(), scaled(low()), scaled(tucker()), scaled()):
        base = torch.randn(delta.target.shape)
        expected = delta.merged(base).double() - base.double()

        assert torch.allclose(change(delta, base), expected, rtol=1e-4, atol=1e-5)
