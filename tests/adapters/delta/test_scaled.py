"""A scaled weight is `c_out * (W + delta) * c_in`, whatever the layer and the delta, and a wrong shape is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lensmount_adapters import Backbone
from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.kinds import Additive, Delta, LowRank
from lensmount_adapters.delta.read import read_deltas
from lensmount_adapters.delta.scaled import Scaled
from lensmount_adapters.errors import AdapterInvalid

LAYERS = {
    "linear": nn.Linear(6, 4),
    "conv2d": nn.Conv2d(6, 4, 3, padding=1),
    "grouped": nn.Conv2d(6, 4, 3, groups=2),
    "depthwise": nn.Conv2d(4, 8, 3, groups=4),
    "conv3d": nn.Conv3d(6, 4, (1, 3, 3)),
    "transposed": nn.ConvTranspose2d(6, 4, 3, stride=2),
    "transposed with groups": nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2),
}


def target_of(layer: Any) -> Target:
    kind = next(
        kind
        for classes, kind in (
            (nn.Linear, Layer.LINEAR),
            ((nn.ConvTranspose2d,), Layer.CONV_TRANSPOSED),
            ((nn.Conv2d, nn.Conv3d), Layer.CONV),
        )
        if isinstance(layer, classes)
    )
    return Target("layer.weight", tuple(layer.weight.shape), kind, getattr(layer, "groups", 1))


def images_for(layer: Any, draw: torch.Generator) -> Tensor:
    inputs = getattr(layer, "in_features", None) or getattr(layer, "in_channels")  # noqa: B009
    return torch.randn(2, inputs, *[7] * (layer.weight.ndim - 2), generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("name", LAYERS)
def test_row_scales_multiply_the_outputs_and_column_scales_the_inputs_of_any_layer(name: str) -> None:
    """The layer itself says what its outputs and inputs are; columns are the inputs of one group."""
    draw = torch.Generator().manual_seed(0)
    layer: Any = LAYERS[name]
    target = target_of(layer)
    rows = torch.randn(target.out_features, generator=draw)
    inputs = target.shape[0] if target.layer is Layer.CONV_TRANSPOSED else target.shape[1]
    columns = torch.randn(inputs, generator=draw)
    scaled = read_deltas(
        {target.name: target}, {"layer.weight.row_scale": rows, "layer.weight.column_scale": columns}, {}
    )[0]
    x = images_for(layer, draw)
    ones = [1] * (x.ndim - 2)
    per_channel = columns.double().repeat(x.shape[1] // inputs)  # each group has the same columns

    def compute(weight: Tensor, x: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(layer, {"weight": weight.double(), "bias": zeros}, (x,))
        return output

    zeros = torch.zeros(target.out_features, dtype=torch.float64)
    found = compute(scaled.merged(layer.weight), x)
    expected = compute(layer.weight, x * per_channel.view(-1, *ones)) * rows.double().view(-1, *ones)
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.fixture(scope="module")
def backbone(every_layer: Callable[..., Backbone]) -> Backbone:
    return every_layer()


def inner_and_scales(inner: str) -> tuple[Target, dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(3)
    target = Target("layer.weight", (4, 6, 3, 3), Layer.CONV)
    tensors = {
        "layer.weight.row_scale": torch.randn(4, generator=draw),
        "layer.weight.column_scale": torch.randn(6, generator=draw),
    }
    if inner == "factors":
        tensors["layer.lora_A.weight"] = torch.randn(2, 6, 3, 3, generator=draw)
        tensors["layer.lora_B.weight"] = torch.randn(4, 2, 1, 1, generator=draw)
    elif inner == "full":
        tensors["layer.weight.delta"] = torch.randn(4, 6, 3, 3, generator=draw)
    return target, tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("inner", ["nothing", "factors", "full"])
def test_merging_and_writing_give_the_formula_of_float64(inner: str, dtype: torch.dtype) -> None:
    target, tensors = inner_and_scales(inner)
    base = torch.randn(target.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    (delta,) = read_deltas({target.name: target}, tensors, {"layer": -0.5})
    assert isinstance(delta, Scaled)
    assert type(delta.inner) is {"nothing": type(None), "factors": LowRank, "full": Additive}[inner]
    assert delta.rank == (2 if inner == "factors" else None)
    assert delta.tensors() == tensors

    double = {name: tensor.double() for name, tensor in tensors.items()}
    added = torch.zeros(target.shape, dtype=torch.float64)
    if inner == "factors":
        B, A = double["layer.lora_B.weight"].flatten(1), double["layer.lora_A.weight"]
        added = -0.5 * torch.einsum("or,rikl->oikl", B, A)
    elif inner == "full":
        added = double["layer.weight.delta"]
    rows, columns = double["layer.weight.row_scale"], double["layer.weight.column_scale"]
    expected = torch.einsum("o,oikl,i->oikl", rows, base.double() + added, columns)

    assert (delta.merged(base) - expected).abs().max() <= 1e-6 * expected.abs().max()
    live, before = torch.full_like(base, float("nan")), base.clone()
    delta.write(base, live)
    assert torch.equal(base, before)
    assert (live.double() - expected).abs().max() <= (1e-6 + torch.finfo(dtype).eps) * expected.abs().max()
    again = torch.zeros_like(base)
    delta.write(base, again)
    assert torch.equal(again, live)


def test_gradients_reach_factors_and_scales() -> None:
    target, tensors = inner_and_scales("factors")
    for tensor in tensors.values():
        tensor.requires_grad_()
    (delta,) = read_deltas({target.name: target}, tensors, {"layer": 1.0})
    delta.merged(torch.randn(target.shape, generator=torch.Generator().manual_seed(1))).square().sum().backward()
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in tensors.values())


def test_scales_of_one_change_nothing(backbone: Backbone) -> None:
    name = "grouped.weight"
    base = backbone.base([name])[name]
    (delta,) = read_deltas(backbone.targets, {f"{name}.row_scale": torch.ones(12)}, {})
    live = torch.empty_like(base)
    delta.write(base, live)
    assert torch.equal(live, base)


@pytest.mark.parametrize(
    ("name", "shape", "found"),
    [
        ("linear.weight.row_scale", (17,), r"linear: found row_scale of shape \[17\], expected \[16\]"),
        ("linear.weight.column_scale", (16,), r"linear: found column_scale of shape \[16\], expected \[32\]"),
        ("grouped.weight.column_scale", (16,), r"grouped: found column_scale of shape \[16\], expected \[4\]"),
        ("batch_norm2d.weight.row_scale", (8,), "found a scale for a batch_norm tensor.*Fix: store it as a full delta"),
    ],
)
def test_a_scale_that_does_not_fit_is_refused_by_name(
    name: str, shape: tuple[int, ...], found: str, backbone: Backbone
) -> None:
    with pytest.raises(AdapterInvalid, match=found):
        read_deltas(backbone.targets, {name: torch.ones(shape)}, {})


def test_what_the_refusal_of_a_scale_advises_works(backbone: Backbone) -> None:
    """IA3 scales a norm or a bias too: as a full delta `(c - 1) * weight` it is the same weight."""
    name = "batch_norm2d.weight"
    base = backbone.base([name])[name]
    c = torch.linspace(0.5, 1.5, 8)
    deltas: tuple[Delta, ...] = read_deltas(backbone.targets, {f"{name}.delta": (c - 1) * base}, {})
    assert torch.allclose(deltas[0].merged(base), c * base)


def test_packed_matrices_and_tables_take_factors_and_scales() -> None:
    targets: Any = {
        target.name: target
        for target in (
            Target("attn.in_proj_weight", (12, 4), Layer.PARAMETER),
            Target("positions.weight", (9, 4), Layer.PARAMETER),
        )
    }
    tensors = {
        "attn.in_proj_weight.lora_A.weight": torch.ones(2, 4),
        "attn.in_proj_weight.lora_B.weight": torch.ones(12, 2),
        "attn.in_proj_weight.row_scale": torch.full((12,), 3.0),
        "positions.lora_A.weight": torch.ones(1, 4),
        "positions.lora_B.weight": torch.ones(9, 1),
    }
    packed, table = read_deltas(targets, tensors, {"attn.in_proj_weight": 0.5, "positions": 2.0})
    assert torch.equal(packed.merged(torch.zeros(12, 4)), torch.full((12, 4), 3.0))
    assert torch.equal(table.merged(torch.ones(9, 4)), torch.full((9, 4), 3.0))
    assert packed.tensors().keys() | table.tensors().keys() == tensors.keys()
