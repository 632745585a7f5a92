"""After any operations the base is restored bit for bit, and a mounted adapter has the same bits every time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lensmount_adapters import Backbone, ExactSwapper, load_backbone

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def backbone_of(name: str, dtype: torch.dtype, device: str, every_layer: Callable[..., Backbone]) -> Backbone:
    return every_layer(device, dtype) if name == "every_layer" else load_backbone(name, "random:0", device, dtype)


@pytest.mark.parametrize("operations", [1_000, pytest.param(100_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["every_layer", "test_efficientnet"])
def test_random_operations_never_leave_a_bit_behind(
    name: str,
    dtype: torch.dtype,
    operations: int,
    device: str,
    every_layer: Callable[..., Backbone],
    draw_adapter: Callable[..., Any],
    random_walk: Callable[..., dict[str, int]],
) -> None:
    backbone = backbone_of(name, dtype, device, every_layer)
    methods = ["mixed"] * 10 + ["lora", "lora-shared", "lora-tucker", "bias", "norm", "statistics"]
    adapters = [draw_adapter(backbone, method, 1 + seed % 5, seed).dump() for seed, method in enumerate(methods)]
    count = random_walk(ExactSwapper(backbone), backbone, adapters, operations, seed=7)
    assert count["mismatches"] == 0
    assert all(count[what] > operations / 20 for what in ("mounted", "removed", "refused", "failed"))
