"""Heads: each equals its formula in float64, and a head that does not fit is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lensmount_adapters.adapter.heads import build_head, head_tensors, load_head, probabilities
from lensmount_adapters.adapter.manifest import (
    BatchNormLayer,
    CosineHead,
    DropoutLayer,
    HeadSpec,
    LeakyReluLayer,
    LinearHead,
    LinearLayer,
    MlpHead,
)
from lensmount_adapters.errors import AdapterInvalid

FEATURES, CLASSES = 12, 3
MLP = MlpHead(
    layers=(
        LinearLayer(in_features=12, out_features=8),
        BatchNormLayer(features=8),
        LeakyReluLayer(negative_slope=0.1),
        DropoutLayer(p=0.5),
        LinearLayer(in_features=8, out_features=3),
    )
)
SPECS = [LinearHead(), MLP, CosineHead(dim=12), CosineHead(dim=5, projected=True)]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(7, FEATURES, generator=torch.Generator().manual_seed(0))


def drawn(spec: HeadSpec) -> dict[str, Tensor]:
    """Random tensors for a head, under the names of the adapter file."""
    shapes = head_tensors(build_head(spec, FEATURES, CLASSES))
    draw = torch.Generator().manual_seed(1)
    return {name: torch.rand(tensor.shape, generator=draw) + 0.1 for name, tensor in shapes.items()}


def by_formula(spec: HeadSpec, t: dict[str, Tensor], x: Tensor) -> Tensor:
    t, x = {name.removeprefix("head."): tensor.double() for name, tensor in t.items()}, x.double()
    if isinstance(spec, LinearHead):
        return x @ t["weight"].T + t["bias"]
    if isinstance(spec, CosineHead):
        z = x @ t["projection"].T if spec.projected else x
        cosine: Tensor = (z @ t["prototypes"].T) / z.norm(dim=1, keepdim=True) / t["prototypes"].norm(dim=1)
        return math.exp(float(t["logit_scale"])) * cosine
    h = x @ t["0.weight"].T + t["0.bias"]
    h = (h - t["1.running_mean"]) / (t["1.running_var"] + 1e-5).sqrt() * t["1.weight"] + t["1.bias"]
    h = torch.where(h > 0, h, 0.1 * h)  # and no dropout: the head is in eval mode
    return h @ t["4.weight"].T + t["4.bias"]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_a_loaded_head_is_its_formula(spec: HeadSpec, x: Tensor) -> None:
    tensors = drawn(spec)
    head = load_head(spec, FEATURES, CLASSES, tensors)
    expected = by_formula(spec, tensors, x)
    assert (head(x) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert not head.training
    assert not any(parameter.requires_grad for parameter in head.parameters())


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_a_head_loaded_from_its_tensors_is_the_same_head(spec: HeadSpec, x: Tensor) -> None:
    trained = build_head(spec, FEATURES, CLASSES).eval()
    loaded = load_head(spec, FEATURES, CLASSES, {k: t.detach() for k, t in head_tensors(trained).items()})
    assert torch.equal(loaded(x), trained(x))


def test_float16_tensors_are_computed_in_float32(x: Tensor) -> None:
    head = load_head(LinearHead(), FEATURES, CLASSES, {k: t.half() for k, t in drawn(LinearHead()).items()})
    assert head(x).dtype is torch.float32


def test_scores_are_softmax_or_sigmoid_of_logits_over_temperature() -> None:
    logits = torch.tensor([[1.0, 2.0, 4.0]])
    powers = [math.exp(v / 2) for v in (1, 2, 4)]
    softmax = probabilities(LinearHead(temperature=2.0), logits)[0].tolist()
    assert softmax == pytest.approx([p / sum(powers) for p in powers], rel=1e-6)
    sigmoid = probabilities(LinearHead(temperature=2.0, activation="sigmoid"), logits)[0].tolist()
    assert sigmoid == pytest.approx([p / (1 + p) for p in powers], rel=1e-6)


def test_building_a_head_of_a_million_classes_for_a_file_without_it_allocates_nothing() -> None:
    with pytest.raises(AdapterInvalid, match=r"head\.bias"):
        load_head(LinearHead(), 10**6, 10**6, {})  # it would have 4 TB


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (CosineHead(dim=5), "prototypes of 5 dimensions"),
        (MlpHead(layers=(LinearLayer(in_features=11, out_features=3),)), "in_features 11"),
        (MlpHead(layers=(LinearLayer(in_features=12, out_features=4),)), "a last layer with 4 outputs"),
        (MlpHead(layers=(BatchNormLayer(features=3),)), "features 3"),
        (MlpHead(layers=(LinearLayer(in_features=12, out_features=3), DropoutLayer())), "a last layer"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(spec: HeadSpec, found: str) -> None:
    with pytest.raises(AdapterInvalid, match=found) as caught:
        build_head(spec, FEATURES, CLASSES)
    assert caught.value.code == "head_mismatch"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"head.weight": None}, "head_missing"),
        ({"head.extra": torch.ones(1)}, "adapter_unknown_target"),
        ({"head.weight": torch.ones(3, 11)}, "head_mismatch"),
        ({"head.bias": torch.ones(3, 1)}, "head_mismatch"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change: dict[str, Tensor | None], code: str) -> None:
    tensors = {name: tensor for name, tensor in {**drawn(LinearHead()), **change}.items() if tensor is not None}
    with pytest.raises(AdapterInvalid) as caught:
        load_head(LinearHead(), FEATURES, CLASSES, tensors)
    assert caught.value.code == code


def test_the_seed_s_mlp_can_be_described() -> None:
    """Malaria, part 4: 512-256-2 with BatchNorm, LeakyReLU 0.1 and Dropout 0.5 after VGG16's 512 features."""
    block = (BatchNormLayer(features=256), LeakyReluLayer(negative_slope=0.1), DropoutLayer(p=0.5))
    first, last = LinearLayer(in_features=512, out_features=256), LinearLayer(in_features=256, out_features=2)
    head = build_head(MlpHead(layers=(first, *block, last)), 512, 2)
    assert isinstance(head, nn.Sequential)
    assert [type(layer) for layer in head] == [nn.Linear, nn.BatchNorm1d, nn.LeakyReLU, nn.Dropout, nn.Linear]
