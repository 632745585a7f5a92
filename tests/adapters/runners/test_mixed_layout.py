"""The layout of adapters: what they change in a branch, and which of them cannot be mixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lensmount_adapters import Backbone, Preprocessing, admit, load_backbone
from lensmount_adapters.delta.kinds import Delta
from lensmount_adapters.graph.functional import FunctionalBranch, functional_branch
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.runners.mixed_layout import Layout

DrawAdapter = Callable[..., Any]


class Unreached(nn.Module):
    """A convolution, and a layer whose input does not depend on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.table = nn.Linear(2, 3)
        self.register_buffer("positions", torch.tensor([[0.5, 1.0]]))
        self.pretrained_cfg: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.conv(x).mean((2, 3)) + self.table(self.positions)
        return features


def backbone_of(make: Callable[[], nn.Module]) -> Backbone:
    rule = Preprocessing(size=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Backbone(make.__name__, make(), rule, torch.float32)


def branch_of(backbone: Backbone) -> FunctionalBranch:
    """The backbone without a trunk."""
    return functional_branch(Segments(backbone.module).halves(set(backbone.targets)).branch, backbone)


def deltas_of(backbone: Backbone, parts: Any) -> tuple[Delta, ...]:
    return admit(parts.dump(), backbone).deltas


def test_a_layout_says_what_adapters_change(every_layer: Callable[..., Backbone], draw_adapter: DrawAdapter) -> None:
    backbone = every_layer()
    branch = branch_of(backbone)

    def layout(method: str, modules: str) -> Layout | None:
        return Layout.of(branch, deltas_of(backbone, draw_adapter(backbone, method, modules=modules, size=1.0, seed=1)))

    lora, bias, norm = (
        layout(*given) for given in (("lora", "linear|conv2d"), ("bias", "conv2d"), ("norm", "batch_norm2d|layer_norm"))
    )
    assert lora == Layout(weights=("conv2d", "linear"))
    assert bias == Layout(shifts=("conv2d",))
    assert norm == Layout(gains=("conv2d", "layer_norm"), shifts=("conv2d", "layer_norm"))
    both = lora | bias
    assert both == bias | lora == Layout(weights=("conv2d", "linear"), shifts=("conv2d",))
    assert both.covers(lora)
    assert both.covers(bias)
    assert not lora.covers(both)
    assert not both.covers(norm)
    assert both.modules == {"conv2d", "linear"}


def test_a_transposed_convolution_cannot_be_mixed(
    every_layer: Callable[..., Backbone], draw_adapter: DrawAdapter
) -> None:
    backbone = every_layer()
    deltas = deltas_of(backbone, draw_adapter(backbone, modules="linear|transposed2d"))

    assert branch_of(backbone).covers(deltas)
    assert Layout.of(branch_of(backbone), deltas) is None


def test_a_layer_that_the_images_do_not_reach_cannot_be_mixed(draw_adapter: DrawAdapter) -> None:
    backbone = backbone_of(Unreached)
    deltas = deltas_of(backbone, draw_adapter(backbone, rank=2, modules="conv|table"))

    assert branch_of(backbone).covers(deltas)
    assert Layout.of(branch_of(backbone), deltas) is None


def test_a_layer_whose_weight_is_computed_from_its_tensors_cannot_be_mixed(draw_adapter: DrawAdapter) -> None:
    class Standardised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Linear(3, 3)
            self.pretrained_cfg: dict[str, Any] = {}

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x.mean((2, 3)), F.normalize(self.conv.weight), self.conv.bias)

    backbone = backbone_of(Standardised)
    deltas = deltas_of(backbone, draw_adapter(backbone, rank=2, modules="conv"))

    assert branch_of(backbone).covers(deltas)
    assert Layout.of(branch_of(backbone), deltas) is None


def test_there_is_nothing_to_mix_without_deltas_or_outside_of_the_branch(draw_adapter: DrawAdapter) -> None:
    backbone = load_backbone("test_resnet", "random:0")
    branch = functional_branch(Segments(backbone.module).halves({"layer2.0.conv1.weight"}).branch, backbone)

    assert Layout.of(branch, ()) is None
    assert Layout.of(branch, deltas_of(backbone, draw_adapter(backbone, modules=r"layer1\..*"))) is None
