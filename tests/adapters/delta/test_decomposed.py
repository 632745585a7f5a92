"""DoRA's live weight, output and gradients are those of PEFT, and what is stored gives the same weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.decomposed import Decomposed, decomposed, lengths_of_outputs, magnitude_name
from lensmount_adapters.delta.initial import fresh_low_rank
from lensmount_adapters.delta.kinds import low_rank
from lensmount_adapters.delta.read import read_deltas

RANK, ALPHA = 3, 6.0
LAYERS: dict[str, tuple[Callable[[], Any], Layer, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(7, 5), Layer.LINEAR, (4, 7)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1), Layer.CONV, (2, 4, 9, 9)),
}


def peft_model(layer: nn.Module) -> Any:
    """PEFT's DoRA on the layer, with factors and magnitudes drawn at random."""
    import peft

    config = peft.LoraConfig(
        r=RANK, lora_alpha=int(ALPHA), target_modules=["layer"], use_dora=True, init_lora_weights=False
    )
    base = nn.ModuleDict({"layer": layer})
    base.forward = lambda x: base["layer"](x)
    model: Any = peft.get_peft_model(base, config).eval()
    for name, tensor in model.named_parameters():
        if "magnitude" in name:
            tensor.data *= 1 + 0.3 * torch.randn(tensor.shape)
    return model


def leaves(model: Any) -> dict[str, Tensor]:
    """The tensors in training, by the ends of their names in PEFT."""
    named = dict(model.named_parameters())
    ends = {"A": "lora_A.default.weight", "B": "lora_B.default.weight", "m": "lora_magnitude_vector.default.weight"}
    return {part: next(t for name, t in named.items() if name.endswith(end)) for part, end in ends.items()}


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", LAYERS)
def test_output_gradients_and_merged_weight_are_those_of_peft(name: str) -> None:
    make, kind, shape = LAYERS[name]
    torch.manual_seed(0)
    layer, x = make(), torch.randn(shape)
    base, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    model = peft_model(layer)
    theirs = leaves(model)
    ours = {part: tensor.detach().clone().requires_grad_() for part, tensor in theirs.items()}
    target = Target("layer.weight", tuple(base.shape), kind)
    delta = Decomposed(target, low_rank(target, ours["A"], ours["B"], ALPHA / RANK), ours["m"].flatten())

    expected = model(x)
    found = torch.func.functional_call(make(), {"weight": delta.merged(base), "bias": bias}, (x,))
    assert_close(found, expected)
    weight = torch.randn(expected.shape)
    (expected * weight).sum().backward()
    (found * weight).sum().backward()
    for part, leaf in ours.items():
        grad = theirs[part].grad
        assert leaf.grad is not None
        assert grad is not None
        assert_close(leaf.grad, grad)
    merged = model.merge_and_unload()["layer"].weight.detach()
    assert_close(delta.merged(base).detach(), merged)


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_stored_reads_back_as_the_weight_of_peft(name: str) -> None:
    make, kind, _ = LAYERS[name]
    torch.manual_seed(1)
    layer = make()
    base = layer.weight.detach().clone()
    model = peft_model(layer)
    parts = {part: tensor.detach() for part, tensor in leaves(model).items()}
    target = Target("layer.weight", tuple(base.shape), kind)
    delta = Decomposed(target, low_rank(target, parts["A"], parts["B"], ALPHA / RANK), parts["m"].flatten())

    stored = delta.stored(base).tensors()
    assert stored.keys() == {"layer.lora_A.weight", "layer.lora_B.weight", "layer.weight.row_scale"}
    (read,) = read_deltas({target.name: target}, stored, {"layer": ALPHA / RANK})
    assert_close(read.merged(base), model.merge_and_unload()["layer"].weight.detach())


@pytest.mark.parametrize("groups", [1, 2])
def test_lengths_are_those_of_each_output_of_a_transposed_convolution(groups: int) -> None:
    """Each output alone: the response to one input at one place contains each of its weights once."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 6, 3, stride=3, groups=groups, bias=False)
    target = Target("layer.weight", tuple(layer.weight.shape), Layer.CONV_TRANSPOSED, groups)
    with torch.no_grad():
        responses = torch.stack([layer(torch.eye(4)[channel].view(1, 4, 1, 1))[0] for channel in range(4)])
    expected = responses.square().sum((0, 2, 3)).sqrt()
    assert torch.allclose(lengths_of_outputs(target, layer.weight), expected, atol=1e-6)


def test_a_new_delta_changes_nothing_and_a_row_of_zeros_stays_zero() -> None:
    target = Target("layer.weight", (5, 7), Layer.LINEAR)
    base = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    base[2] = 0
    delta = decomposed(fresh_low_rank(target, 2, 1.0, torch.Generator().manual_seed(1)), base)
    assert delta.rank == 2
    assert delta.tensors()[magnitude_name(target)].shape == (5,)
    assert torch.allclose(delta.merged(base), base, atol=1e-6)
    live = torch.full_like(base, float("nan"))
    delta.write(base, live)
    assert torch.equal(live, delta.merged(base))
