"""A merged delta gives the output of the unmerged composition in float64, and PEFT's and LyCORIS's output.

The reference runs the factors as separate layers, as in the papers: a convolution with A, then a pointwise one with B.
It never computes the product B A that Lensmount writes into the weights.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.kinds import Delta
from lensmount_adapters.delta.read import read_deltas

RANK = 3
SCALE = 1.75


@dataclass(frozen=True)
class Case:
    layer: Callable[[], nn.Module]
    input: tuple[int, ...]


CASES = {
    "linear": Case(lambda: nn.Linear(12, 7), (5, 12)),
    "linear on tokens": Case(lambda: nn.Linear(12, 7, bias=False), (2, 5, 12)),
    "conv1d": Case(lambda: nn.Conv1d(6, 8, 5, stride=2, padding=2), (2, 6, 19)),
    "conv1d dilation groups": Case(lambda: nn.Conv1d(6, 9, 3, padding=2, dilation=2, groups=3), (2, 6, 19)),
    "conv2d": Case(lambda: nn.Conv2d(5, 8, 3, stride=2, padding=1), (2, 5, 11, 9)),
    "conv2d pointwise": Case(lambda: nn.Conv2d(5, 8, 1), (2, 5, 11, 9)),
    "conv2d oblong": Case(lambda: nn.Conv2d(5, 8, (3, 5), stride=(1, 2), padding=(1, 0)), (2, 5, 11, 9)),
    "conv2d dilation": Case(lambda: nn.Conv2d(5, 8, 3, padding=2, dilation=2, bias=False), (2, 5, 11, 9)),
    "conv2d groups": Case(lambda: nn.Conv2d(6, 8, 3, stride=2, padding=1, dilation=2, groups=2), (2, 6, 13, 9)),
    "conv2d depthwise": Case(lambda: nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6), (2, 6, 11, 9)),
    "conv2d depthwise doubled": Case(lambda: nn.Conv2d(6, 12, 3, padding=1, groups=6), (2, 6, 11, 9)),
    "conv3d": Case(lambda: nn.Conv3d(4, 6, 3, stride=(1, 2, 2), padding=1), (2, 4, 5, 7, 6)),
    "conv3d groups dilation": Case(lambda: nn.Conv3d(4, 6, (1, 3, 3), dilation=(1, 2, 2), groups=2), (2, 4, 5, 7, 6)),
    "transposed1d": Case(lambda: nn.ConvTranspose1d(6, 8, 4, stride=2, padding=1), (2, 6, 9)),
    "transposed2d": Case(lambda: nn.ConvTranspose2d(6, 8, 3, stride=2, padding=1, output_padding=1), (2, 6, 7, 5)),
    "transposed2d groups": Case(lambda: nn.ConvTranspose2d(6, 8, 3, stride=2, groups=2, dilation=2), (2, 6, 7, 5)),
    "transposed2d depthwise": Case(lambda: nn.ConvTranspose2d(6, 6, 2, stride=2, groups=6), (2, 6, 7, 5)),
    "transposed3d": Case(lambda: nn.ConvTranspose3d(4, 6, 3, stride=2, output_padding=1, groups=2), (2, 4, 3, 4, 3)),
}
CONVOLUTIONS = [name for name, case in CASES.items() if name.startswith("conv")]
GROUPED = [name for name in CONVOLUTIONS if "groups" in name or "depthwise" in name]


@pytest.mark.parametrize("name", CASES)
def test_a_low_rank_delta_equals_its_two_layers(name: str) -> None:
    layer, x = build(name)
    target = target_of(layer)
    inputs = target.shape[0] if target.layer is Layer.CONV_TRANSPOSED else RANK * target.groups
    first = (inputs, RANK) if target.layer is Layer.CONV_TRANSPOSED else (inputs, target.shape[1])
    A, B = normal(*first, *target.shape[2:]), normal(target.out_features, RANK, *ones(target))
    reference = base64(layer, x) + SCALE * pointwise(layer, through(layer, x, A), B)
    assert_close(merged(layer, x, {"layer.lora_A.weight": A, "layer.lora_B.weight": B}), reference)


@pytest.mark.parametrize("name", GROUPED)
def test_a_shared_down_factor_serves_every_group(name: str) -> None:
    layer, x = build(name)
    target = target_of(layer)
    A, B = normal(RANK, *target.shape[1:]), normal(target.out_features, RANK, *ones(target))
    hidden = through(layer, x, repeat(A, target.groups))
    reference = base64(layer, x) + SCALE * pointwise(layer, hidden, B)
    assert_close(merged(layer, x, {"layer.lora_A.weight": A, "layer.lora_B.weight": B}), reference)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_tucker_delta_equals_its_three_layers(name: str) -> None:
    layer, x = build(name)
    target = target_of(layer)
    A, B = normal(RANK, target.shape[1], *ones(target)), normal(target.out_features, RANK, *ones(target))
    mid = normal(RANK, RANK, *target.shape[2:])
    down = pointwise(layer, x.double(), repeat(A, target.groups))
    hidden = through(layer, down, repeat(mid, target.groups))
    reference = base64(layer, x) + SCALE * pointwise(layer, hidden, B)
    tensors = {"layer.lora_A.weight": A, "layer.lora_mid.weight": mid, "layer.lora_B.weight": B}
    assert_close(merged(layer, x, tensors), reference)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.layer().bias is not None])
def test_a_bias_delta_is_added_to_every_position(name: str) -> None:
    layer, x = build(name)
    delta = normal(len(layer.get_parameter("bias")))
    spatial = ones(target_of(layer)) if target_of(layer).layer is not Layer.LINEAR else ()
    reference = base64(layer, x) + delta.double().view(-1, *spatial)
    assert_close(merged(layer, x, {"layer.bias.delta": delta}), reference)


NORMS: dict[str, tuple[Callable[[], Any], tuple[int, ...], list[int] | None]] = {
    "layer norm": (lambda: nn.LayerNorm(12), (3, 5, 12), [2]),
    "group norm": (lambda: nn.GroupNorm(1, 6), (3, 6, 5, 4), [1, 2, 3]),
    "batch norm 1d": (lambda: nn.BatchNorm1d(6), (5, 6), None),
    "batch norm 2d": (lambda: nn.BatchNorm2d(6), (3, 6, 5, 4), None),
    "batch norm 3d": (lambda: nn.BatchNorm3d(6), (3, 6, 3, 4, 2), None),
}


@pytest.mark.parametrize("name", NORMS)
def test_norm_deltas_move_affine_and_statistics(name: str) -> None:
    """The reference is the formula of normalisation, written out."""
    make, shape, axes = NORMS[name]
    torch.manual_seed(0)
    layer, x = randomised(make()), torch.randn(shape)
    deltas = {key: torch.rand(value.shape) for key, value in floats(layer).items()}
    after = {key: value.double() + deltas[key].double() for key, value in floats(layer).items()}
    if axes is None:
        mean, var = (channelwise(after[key], x) for key in ("running_mean", "running_var"))
    else:
        mean, var = x.double().mean(axes, keepdim=True), x.double().var(axes, correction=0, keepdim=True)
    weight, bias = (after[key] if name == "layer norm" else channelwise(after[key], x) for key in ("weight", "bias"))
    reference = (x.double() - mean) / (var + cast(float, layer.eps)).sqrt() * weight + bias
    assert_close(merged(layer, x, {f"layer.{key}.delta": delta for key, delta in deltas.items()}), reference)


# PEFT: its tensors, renamed to our names; without groups and dilation, because its results are known to be wrong there

PEFT_CASES = ["linear", "linear on tokens", "conv1d", "conv2d", "conv2d pointwise", "conv2d oblong", "conv3d"]


@pytest.mark.parametrize("name", PEFT_CASES)
def test_peft_merged_and_unmerged_gives_the_same_output(name: str) -> None:
    import peft

    layer, x = build(name)
    config = peft.LoraConfig(r=RANK, lora_alpha=SCALE * RANK, target_modules=["layer"], init_lora_weights=False)
    base = nn.ModuleDict({"layer": layer})
    base.forward = lambda x: base["layer"](x)
    model: Any = peft.get_peft_model(base, config).eval()
    stored = peft.get_peft_model_state_dict(model)
    ours = {key.removeprefix("base_model.model."): tensor.clone() for key, tensor in stored.items()}
    with torch.no_grad():
        unmerged = model(x)
        model.merge_adapter()
        peft_merged = model(x)
        model.unmerge_adapter()
    y = merged(build(name)[0], x, ours)
    assert_close(y, unmerged)
    assert_close(y, peft_merged)
    assert_close(y, model_in_float64(model, x))


def model_in_float64(model: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        y: Tensor = model.double()(x.double())
    return y


# LyCORIS: LoCon, plain and Tucker

LYCORIS_NAMES = {"lora_down": "lora_A", "lora_mid": "lora_mid", "lora_up": "lora_B"}


LYCORIS_CASES = ["conv1d", "conv2d", "conv2d oblong", "conv2d groups", "conv3d"]


@pytest.mark.parametrize(
    ("name", "use_tucker"), [("linear", False), *itertools.product(LYCORIS_CASES, (False, True))], ids=str
)
def test_lycoris_gives_the_same_output(name: str, use_tucker: bool) -> None:
    from lycoris.modules.locon import LoConModule

    layer, x = build(name)
    module = LoConModule("layer", layer, lora_dim=RANK, alpha=SCALE * RANK, use_tucker=use_tucker)
    with torch.no_grad():
        module.lora_up.weight.normal_()
    stored = module.state_dict()
    assert ("lora_mid.weight" in stored) == use_tucker
    assert stored["alpha"] / stored["lora_down.weight"].shape[0] == SCALE
    ours = {
        f"layer.{LYCORIS_NAMES[key.removesuffix('.weight')]}.weight": tensor.clone()
        for key, tensor in stored.items()
        if key != "alpha"
    }
    y = merged(build(name)[0], x, ours)
    module.apply_to()
    with torch.no_grad():
        assert_close(y, layer(x))
        assert_close(y, functional(layer)(x, layer.weight + module.get_diff_weight()[0], layer.bias))


# The parts of the reference


def build(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(len(name))
    return CASES[name].layer().eval(), torch.randn(CASES[name].input)


KINDS = {
    (nn.Linear,): Layer.LINEAR,
    (nn.Conv1d, nn.Conv2d, nn.Conv3d): Layer.CONV,
    (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d): Layer.CONV_TRANSPOSED,
    (nn.LayerNorm, nn.GroupNorm): Layer.NORM,
    (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d): Layer.BATCH_NORM,
}


def target_of(layer: nn.Module, parameter: str = "weight") -> Target:
    kind = next(kind for classes, kind in KINDS.items() if isinstance(layer, classes))
    return Target(f"layer.{parameter}", tuple(getattr(layer, parameter).shape), kind, getattr(layer, "groups", 1))


def merged(layer: nn.Module, x: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """The layer's own forward after the deltas were written into it."""
    targets = {f"layer.{name}": target_of(layer, name) for name in floats(layer)}
    deltas = read_deltas(targets, tensors, {"layer": SCALE})
    assert {name for delta in deltas for name in delta.tensors()} == tensors.keys()
    with torch.no_grad():
        write(deltas, floats(layer))
        y: Tensor = layer(x)
    return y


def write(deltas: Iterable[Delta], live: dict[str, Tensor]) -> None:
    for delta in deltas:
        tensor = live[delta.target.name.removeprefix("layer.")]
        delta.write(tensor.clone(), tensor)


def floats(layer: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in layer.state_dict().items() if tensor.is_floating_point()}


def base64(layer: nn.Module, x: Tensor) -> Tensor:
    bias = None if layer.bias is None else layer.get_parameter("bias").detach().double()
    return functional(layer)(x.double(), layer.get_parameter("weight").detach().double(), bias)


def through(layer: nn.Module, x: Tensor, A: Tensor) -> Tensor:
    """The layer with A as its weight, applied to x: the same stride, padding, dilation and groups, no bias."""
    return functional(layer)(x.double(), A.double(), None)


def pointwise(layer: nn.Module, hidden: Tensor, B: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(hidden, B.double())
    convolution = (F.conv1d, F.conv2d, F.conv3d)[hidden.ndim - 3]
    return convolution(hidden, B.double(), groups=cast(int, layer.groups))


def functional(layer: nn.Module) -> Callable[..., Tensor]:
    if isinstance(layer, nn.Linear):
        return F.linear
    kwargs = {key: getattr(layer, key) for key in ("stride", "padding", "dilation", "groups")}
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        kwargs["output_padding"] = layer.output_padding
    name = type(layer).__name__.replace("ConvTranspose", "conv_transpose").replace("Conv", "conv")
    return functools.partial(getattr(F, name), **kwargs)


def repeat(tensor: Tensor, groups: int) -> Tensor:
    return torch.cat([tensor] * groups)


def ones(target: Target) -> tuple[int, ...]:
    return (1,) * (len(target.shape) - 2)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape)


def randomised(layer: nn.Module) -> nn.Module:
    for tensor in floats(layer).values():
        tensor.uniform_(0.5, 1.5)
    return layer.eval()


def channelwise(vector: Tensor, x: Tensor) -> Tensor:
    return vector.view(1, -1, *[1] * (x.ndim - 2))


def assert_close(y: Tensor, reference: Tensor) -> None:
    """1e-5 relative, in the largest norm."""
    reference = reference.detach().double()
    assert y.shape == reference.shape
    assert (y.double() - reference).abs().max() <= 1e-5 * reference.abs().max()
