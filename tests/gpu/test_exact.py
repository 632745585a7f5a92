"""The exact swapper on a CUDA device: it restores the base bit for bit and gives the same bits each time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Backbone, ExactSwapper, admit, load_backbone

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
METHODS = ["mixed"] * 10 + ["lora", "lora-shared", "lora-tucker", "bias", "norm", "statistics"]


@pytest.fixture(params=DTYPES, ids=str)
def backbone(request: pytest.FixtureRequest, every_layer: Callable[..., Backbone]) -> Backbone:
    return every_layer(DEVICE, request.param)


@pytest.mark.parametrize("operations", [1_000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_random_operations_never_leave_a_bit_behind(
    operations: int, backbone: Backbone, draw_adapter: Callable[..., Any], random_walk: Callable[..., dict[str, int]]
) -> None:
    adapters = [draw_adapter(backbone, method, 1 + seed % 5, seed).dump() for seed, method in enumerate(METHODS)]
    count = random_walk(ExactSwapper(backbone), backbone, adapters, operations, seed=7)
    assert count["mismatches"] == 0


def test_the_weights_have_the_same_bits_whatever_was_mounted_before(
    backbone: Backbone, draw_adapter: Callable[..., Any], digest_of_state: Callable[[Backbone], str]
) -> None:
    swapper = ExactSwapper(backbone)
    adapters = [admit(draw_adapter(backbone, way, 4, seed).dump(), backbone) for seed, way in enumerate(METHODS[6:])]
    from_base = []
    for adapter in adapters:
        swapper.mount(adapter)
        from_base.append(digest_of_state(backbone))
        swapper.unmount()
    for (_, before), (expected, after) in itertools.permutations(zip(from_base, adapters, strict=True), 2):
        swapper.mount(before)
        swapper.mount(after)
        assert digest_of_state(backbone) == expected


@pytest.mark.parametrize("method", ["lora", "lora-shared", "lora-tucker", "bias", "norm", "statistics", "mixed"])
def test_merged_weights_are_those_of_float64(
    method: str,
    backbone: Backbone,
    draw_adapter: Callable[..., Any],
    merged64: Callable[[Backbone, Any, str], Tensor],
) -> None:
    """float32: 1e-6 relative to the largest weight, which rules out TF32; 16 bits: one step of the dtype."""
    parts = draw_adapter(backbone, method, rank=8, seed=3)
    adapter = admit(parts.dump(), backbone)
    ExactSwapper(backbone).mount(adapter)
    relative = {torch.float32: 1e-6, torch.float16: 2**-10, torch.bfloat16: 2**-7}[backbone.dtype]
    for delta in adapter.deltas:
        expected = merged64(backbone, parts, delta.target.name)
        live = backbone.tensors[delta.target.name].cpu().double()
        assert (live - expected).abs().max() <= relative * expected.abs().max(), delta.target


def test_scores_are_those_of_the_cpu(draw_adapter: Callable[..., Any]) -> None:
    images = torch.randn(4, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    scores = []
    for device in ("cpu", DEVICE):
        backbone = load_backbone("test_efficientnet", "random:0", device)
        adapter = admit(draw_adapter(backbone, "mixed", seed=5, size=0.05).dump(), backbone)
        ExactSwapper(backbone).mount(adapter)
        scores.append(adapter.scores(backbone.features(images)).cpu())
    assert (scores[0] - scores[1]).abs().max() < 1e-3  # convolutions may use TF32 on the GPU


def test_the_fingerprint_does_not_depend_on_the_device() -> None:
    fingerprints = {load_backbone("test_efficientnet", "random:0", device).fingerprint for device in ("cpu", DEVICE)}
    assert len(fingerprints) == 1
