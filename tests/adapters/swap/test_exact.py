"""The exact swapper: one adapter at a time, the same bits whatever was mounted before, the base when it fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, ExactSwapper, admit, load_backbone
from lensmount_adapters.errors import IntegrityError, SwapError

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_weights_have_the_same_bits_whatever_was_mounted_before(
    dtype: torch.dtype,
    device: str,
    every_layer: Callable[..., Backbone],
    draw_adapter: Callable[..., Any],
    digest_of_state: Callable[[Backbone], str],
) -> None:
    backbone = every_layer(device, dtype)
    swapper = ExactSwapper(backbone)
    methods = ["mixed"] * 9 + ["lora", "lora-shared", "lora-tucker", "bias", "norm", "statistics", "head"]
    adapters = [admit(draw_adapter(backbone, way, 4, seed).dump(), backbone) for seed, way in enumerate(methods)]
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
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_merged_weights_are_those_of_float64_rounded_once(
    dtype: torch.dtype,
    method: str,
    device: str,
    every_layer: Callable[..., Backbone],
    draw_adapter: Callable[..., Any],
    merged64: Callable[[Backbone, Any, str], Tensor],
) -> None:
    """float32: 1e-6 relative to the largest weight; float16 and bfloat16: one step of the dtype per element."""
    backbone = every_layer(device, dtype)
    parts = draw_adapter(backbone, method, rank=8, seed=3)
    adapter = admit(parts.dump(), backbone)
    ExactSwapper(backbone).mount(adapter)
    assert adapter.deltas
    for delta in adapter.deltas:
        live, expected = backbone.tensors[delta.target.name].cpu(), merged64(backbone, parts, delta.target.name)
        if dtype is torch.float32:
            assert (live - expected).abs().max() <= 1e-6 * expected.abs().max(), delta.target
        else:
            assert steps_apart(live, expected.to(dtype)).max() <= 1, delta.target


def test_a_mounted_adapter_changes_the_features_and_its_removal_brings_them_back(
    device: str, every_layer: Callable[..., Backbone], draw_adapter: Callable[..., Any]
) -> None:
    backbone = every_layer(device)
    swapper, images = ExactSwapper(backbone), torch.randn(2, 3, 16, 16)
    before = backbone.features(images)
    swapper.mount(admit(draw_adapter(backbone).dump(), backbone))
    assert (backbone.features(images) - before).abs().max() > 0.01
    swapper.unmount()
    assert torch.equal(backbone.features(images), before)


def test_a_real_network_with_an_adapter_equals_the_network_with_merged_weights(
    draw_adapter: Callable[..., Any], merged64: Callable[[Backbone, Any, str], Tensor]
) -> None:
    """The reference is the same timm model in float64, its weights merged by einsum, the head by hand."""
    backbone = load_backbone("test_efficientnet", "random:0")
    parts = draw_adapter(backbone, "mixed", seed=5, size=0.05)
    adapter = admit(parts.dump(), backbone)
    reference = load_backbone("test_efficientnet", "random:0").module.double()
    state = reference.state_dict()
    for delta in adapter.deltas:
        state[delta.target.name].copy_(merged64(backbone, parts, delta.target.name))
    images = torch.randn(2, 3, 160, 160)
    features = reference(images.double())
    expected = (features @ parts.tensors["head.weight"].double().T + parts.tensors["head.bias"].double()).softmax(1)
    ExactSwapper(backbone).mount(adapter)
    assert (adapter.scores(backbone.features(images)) - expected).abs().max() < 1e-5


def test_mounting_the_mounted_adapter_does_nothing(every_layer: Any, draw_adapter: Callable[..., Any]) -> None:
    backbone = every_layer()
    swapper, data = ExactSwapper(backbone), draw_adapter(backbone).dump()
    assert swapper.mount(admit(data, backbone))
    version = {name: tensor._version for name, tensor in backbone.tensors.items()}
    assert not swapper.mount(admit(data, backbone))
    assert version == {name: tensor._version for name, tensor in backbone.tensors.items()}


def test_removing_twice_is_removing_once(every_layer: Any) -> None:
    swapper = ExactSwapper(every_layer())
    swapper.unmount()
    swapper.unmount()
    assert swapper.mounted is None


@pytest.mark.parametrize("error", [RuntimeError("injected"), MemoryError(), KeyboardInterrupt()], ids=repr)
def test_a_merge_that_fails_at_any_delta_leaves_the_base(
    error: BaseException,
    every_layer: Callable[..., Backbone],
    draw_adapter: Callable[..., Any],
    breaking: Callable[[Adapter, int, BaseException], Adapter],
    digest_of_state: Callable[[Backbone], str],
) -> None:
    backbone = every_layer()
    base, swapper = digest_of_state(backbone), ExactSwapper(backbone)
    first, second = (admit(draw_adapter(backbone, "mixed", seed=seed).dump(), backbone) for seed in (1, 2))
    swapper.mount(second)
    mounted = digest_of_state(backbone)
    for position in range(len(second.deltas)):
        swapper.mount(first)
        with pytest.raises(SwapError if isinstance(error, Exception) else type(error)) as caught:
            swapper.mount(breaking(second, position, error))
        assert swapper.mounted is None
        assert digest_of_state(backbone) == base
        if isinstance(caught.value, SwapError):
            assert caught.value.code == "swap_failed"
            assert caught.value.__cause__ is error
        swapper.mount(second)
        assert digest_of_state(backbone) == mounted


def test_weights_that_something_else_changed_are_never_taken_for_the_base(
    every_layer: Callable[..., Backbone], draw_adapter: Callable[..., Any]
) -> None:
    backbone, twin = every_layer(), every_layer()
    adapter, other = (admit(draw_adapter(twin, seed=seed, modules=m).dump(), twin) for seed, m in enumerate(HALVES))
    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    backbone.tensors["linear.weight"].add_(1e-3)
    with pytest.raises(IntegrityError, match=r"linear\.weight"):
        swapper.mount(other)
    assert swapper.mounted is adapter


HALVES = ("conv.*", "linear")


def test_only_what_adapters_touch_is_kept_twice(every_layer: Any, draw_adapter: Callable[..., Any]) -> None:
    backbone = every_layer()
    assert backbone.bytes_resident()[1] == 0
    ExactSwapper(backbone).mount(admit(draw_adapter(backbone, modules="linear").dump(), backbone))
    assert backbone.bytes_resident()[1] == backbone.tensors["linear.weight"].nbytes


def steps_apart(a: Tensor, b: Tensor) -> Tensor:
    """How many representable numbers lie between two 16-bit floats, element by element."""
    return (_ordered(a) - _ordered(b)).abs()


def _ordered(tensor: Tensor) -> Tensor:
    bits = tensor.contiguous().view(torch.int16).int()  # sign and magnitude
    return torch.where(bits < 0, -(bits & 0x7FFF), bits)
