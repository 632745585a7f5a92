"""`random:SEED`: every tensor that an adapter may touch reaches the features, on every backbone that tests use."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from lensmount_adapters import Backbone, load_backbone

ROOT = Path(__file__).parent.parent.parent
SMALL = (
    "test_resnet", "test_vit", "test_efficientnet", "test_convnext", "mobilenetv2_035", "resnet10t", "resnet10t-3d",
    "mobilenetv3_small_050", "monai_unet", "monai_basic_unet",
)  # fmt: skip
LARGE = ("resnet34", "vgg11", "vgg16", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "clip")
LEAST = 1e-4  # of the features' size, for noise of 10 % on one tensor; float32 rounds at 1e-7
LEAST_GATE = 1e-6  # squeeze and excitation sees means over whole maps, and in an untrained network these are small


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.soak) for name in LARGE)])
def test_noise_on_any_target_moves_the_features(name: str) -> None:
    backbone = load_backbone(name, "random:0")

    moved = moves(backbone)

    assert moved.keys() == backbone.targets.keys() - cancelled(backbone)
    for target, size in moved.items():
        gate = re.search(r"\.(se|attn|attn_last)\.(conv_reduce|conv_expand|fc1|fc2)\.", target)
        small = gate or target.endswith("cls_token")  # timm draws class tokens of a millionth
        assert size > (LEAST_GATE if small else LEAST), f"{target} moves the features of {name} by {size:.1e} only"


def test_the_networks_above_are_those_that_tests_and_benchmarks_draw() -> None:
    files = [path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    used = {name for path in files for name in re.findall(r'load_backbone\("([^"{]+)", "random:\d', path.read_text())}
    stems = {re.sub(r"@\d+|-3d\d*", "", name) for name in used} - {"resnet3", "resnet34x", "clipp"}  # unknown names
    assert stems <= {*SMALL, *LARGE}


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_a_seed_gives_the_same_factors_and_another_seed_others(name: str) -> None:
    first, again, other = (load_backbone(name, f"random:{seed}") for seed in (0, 0, 1))
    started = timm.create_model(name, num_classes=0).named_parameters()
    factors = [key for key, tensor in started if tensor.abs().max() < 1e-3 and not key.endswith("bias")]

    assert first.fingerprint == again.fingerprint
    assert len(factors) >= 4
    for key in factors:
        drawn = first.tensors[key] * math.sqrt(len(factors))
        assert 0.5 <= drawn.min() < drawn.max() <= 1.5
        assert (first.tensors[key] - other.tensors[key]).abs().max() > 1e-2


def moves(backbone: Backbone) -> dict[str, float]:
    """How far noise of 10 % on each target moves the features: to first order, on a random direction of them.

    One backward pass for all of them. torch has no derivative by BatchNorm's statistics; with
    y = w (x - m) / s + b they follow from those by w and b: dm = -w / s db, dv = -w / (2 s²) dw.
    """
    draw = torch.Generator().manual_seed(0)
    sides = backbone.preprocessing.input_shape[1:]
    images = torch.randn(1, 3, *(sides if backbone.fixed_size else [min(side, 64) for side in sides]), generator=draw)
    state = {name: tensor.detach().clone() for name, tensor in backbone.tensors.items()}
    asked = [name for name in backbone.targets if "running_" not in name and name not in cancelled(backbone)]
    for name in asked:
        state[name].requires_grad_()
    features = torch.func.functional_call(backbone.module, state, (images,)).flatten()
    size = features.detach().norm()
    direction = torch.randn(features.shape, generator=draw)
    slopes = dict(zip(asked, torch.autograd.grad(features @ direction, [state[name] for name in asked]), strict=True))
    for path, module in backbone.module.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            scale, variance = state[f"{path}.weight"], state[f"{path}.running_var"] + module.eps
            slopes[f"{path}.running_mean"] = -scale / variance.sqrt() * slopes[f"{path}.bias"]
            slopes[f"{path}.running_var"] = -scale / (2 * variance) * slopes[f"{path}.weight"]
    return {name: 0.1 * float((noise(state[name]) * slope).norm().detach() / size) for name, slope in slopes.items()}


def noise(tensor: Tensor) -> Tensor:
    """How large each element's noise is: as large as the element, or 1 where the tensor is zero."""
    return tensor.detach().abs() if tensor.any() else torch.ones_like(tensor)


def cancelled(backbone: Backbone) -> set[str]:
    """Biases of MONAI's convolutions whose mean the InstanceNorm behind them takes away, whatever they are."""
    modules = dict(backbone.module.named_modules())
    return {
        f"{path}.conv.bias"
        for path, module in modules.items()
        if f"{path}.conv" in modules and isinstance(getattr(getattr(module, "adn", None), "N", None), nn.InstanceNorm2d)
    }
