"""Layers for q, k and v, joined into one: factors stay factors, and anything else becomes a full delta."""

from __future__ import annotations

import torch

from lensmount_adapters.formulas.fused import joined, third_of
from lensmount_adapters.formulas.parts import merged

W = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def low_rank(rank: int) -> dict[str, torch.Tensor]:
    return {
        "lora_A.weight": torch.randn(rank, 5, dtype=torch.float64),
        "lora_B.weight": torch.randn(4, rank, dtype=torch.float64),
    }


def expected(thirds: dict[int | None, dict[str, torch.Tensor]]) -> torch.Tensor:
    return torch.cat([merged(thirds.get(third, {}), third_of(W, third)) for third in range(3)])


def test_factors_of_different_ranks_stay_factors_and_a_missing_third_stays_as_it_is() -> None:
    thirds: dict[int | None, dict[str, torch.Tensor]] = {0: low_rank(2), 2: low_rank(3)}

    whole = joined(thirds, W)

    assert whole["lora_A.weight"].shape == (5, 5)
    assert torch.allclose(merged(whole, W), expected(thirds), atol=1e-12)
    assert torch.equal(merged(whole, W)[4:8], W[4:8])


def test_scales_of_rows_are_1_where_a_third_has_none() -> None:
    thirds: dict[int | None, dict[str, torch.Tensor]] = {
        0: {**low_rank(2), "weight.row_scale": torch.rand(4, dtype=torch.float64)},
        1: low_rank(1),
    }

    whole = joined(thirds, W)

    assert set(whole) == {"lora_A.weight", "lora_B.weight", "weight.row_scale"}
    assert torch.allclose(merged(whole, W), expected(thirds), atol=1e-12)


def test_anything_else_becomes_a_full_delta_and_biases_are_put_together() -> None:
    thirds: dict[int | None, dict[str, torch.Tensor]] = {
        0: {**low_rank(2), "bias.delta": torch.ones(4, dtype=torch.float64)},
        1: {"weight.column_scale": torch.rand(5, dtype=torch.float64)},
        2: {"weight.delta": torch.rand(4, 5, dtype=torch.float64)},
    }

    whole = joined(thirds, W)

    assert set(whole) == {"weight.delta", "bias.delta"}
    assert whole["bias.delta"].tolist() == [1] * 4 + [0] * 8
    bare = {third: {name: t for name, t in part.items() if name != "bias.delta"} for third, part in thirds.items()}
    assert torch.allclose(merged({"weight.delta": whole["weight.delta"]}, W), expected(bare), atol=1e-12)


def test_a_bias_alone_changes_no_weight() -> None:
    assert set(joined({1: {"bias.delta": torch.ones(4, dtype=torch.float64)}}, W)) == {"bias.delta"}
