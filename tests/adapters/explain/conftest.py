"""What the tests of explanations share: adapters of several heads, and one plain torch network for each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lensmount_adapters import Adapter, Backbone, ExactSwapper, admit, load_backbone

DrawExplained = Callable[..., Adapter]
PlainNetwork = Callable[..., nn.Module]


@pytest.fixture(scope="session")
def resnet() -> Backbone:
    return load_backbone("resnet10t", "random:0")


@pytest.fixture(scope="session")
def vit() -> Backbone:
    return load_backbone("test_vit", "random:0")


@pytest.fixture(scope="session")
def draw_explained(draw_adapter: Callable[..., Any]) -> DrawExplained:
    """`draw_explained(backbone, head="linear", orientations=1, size=64)`: three labels, random low-rank deltas."""

    def draw(backbone: Backbone, head: str = "linear", orientations: int = 1, size: int | None = 64) -> Adapter:
        parts = draw_adapter(backbone, modules=r"(layer4|blocks\.[45]|blocks\.0).*", labels=("ash", "elm", "oak"))
        rule = parts.manifest["preprocessing"]
        rule |= {"orientations": orientations, **({"size": [size, size]} if size else {})}
        features = backbone.feature_dim
        if head == "mlp":
            parts.manifest["head"] = {
                "kind": "mlp",
                "layers": [
                    {"type": "linear", "in_features": features, "out_features": 16},
                    {"type": "batch_norm", "features": 16},
                    {"type": "leaky_relu", "negative_slope": 0.1},
                    {"type": "dropout", "p": 0.5},
                    {"type": "linear", "in_features": 16, "out_features": 3},
                ],
            }
            del parts.tensors["head.weight"], parts.tensors["head.bias"]
            for layer, shape in {"0.weight": (16, features), "4.weight": (3, 16)}.items():
                parts.tensors[f"head.{layer}"] = torch.randn(shape) / shape[1] ** 0.5
            for layer in ("0.bias", "1.weight", "1.bias", "1.running_mean"):
                parts.tensors[f"head.{layer}"] = torch.randn(16)
            parts.tensors |= {"head.1.running_var": torch.rand(16) + 0.5, "head.4.bias": torch.randn(3)}
        if head == "cosine":
            parts.manifest["head"] = {"kind": "cosine", "dim": features}
            del parts.tensors["head.weight"], parts.tensors["head.bias"]
            parts.tensors |= {"head.prototypes": torch.randn(3, features), "head.logit_scale": torch.tensor(2.0)}
        return admit(parts.dump(), backbone)

    return draw


@pytest.fixture(scope="session")
def plain_network() -> PlainNetwork:
    """`plain_network(backbone, adapter)`: images to logits, the adapter merged in place into a copy by the swapper."""

    def make(backbone: Backbone, adapter: Adapter) -> nn.Module:
        twin = backbone.twin()
        ExactSwapper(twin).mount(adapter)
        return nn.Sequential(twin.module, adapter.head)

    return make


@pytest.fixture
def image() -> Tensor:
    return torch.randn(3, 64, 64)
