"""Shared by the tests of exports: small networks, adapters on them, and the logits that an export has to give."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lensmount_adapters import Adapter, Backbone, ExactSwapper, admit, load_backbone

DrawOn = Callable[..., Adapter]


@pytest.fixture(scope="session")
def small() -> Callable[[str], Backbone]:
    """`small("test_vit")`: a small timm network with random weights, the same for every test."""
    return functools.cache(lambda name: load_backbone(name, "random:0"))


@pytest.fixture(scope="session")
def draw_on(draw_adapter: Callable[..., Any]) -> DrawOn:
    """`draw_on(backbone, "mixed", temperature=2.0, preprocessing={...})`: a random adapter of another manifest."""

    def draw(
        backbone: Backbone,
        method: str = "mixed",
        temperature: float = 1.7,
        preprocessing: dict[str, Any] | None = None,
        **options: Any,
    ) -> Adapter:
        parts = draw_adapter(backbone, method, **options)
        parts.manifest["head"]["temperature"] = temperature
        parts.manifest["preprocessing"] |= preprocessing or {}
        return admit(parts.dump(), backbone)

    return draw


@pytest.fixture(scope="session")
def images() -> Callable[[Adapter], Tensor]:
    """`images(adapter)`: two random inputs of its size."""
    draw = torch.Generator().manual_seed(7)
    return lambda adapter: torch.randn(2, *adapter.manifest.preprocessing.input_shape, generator=draw)


@pytest.fixture(scope="session")
def served() -> Callable[[Adapter, Backbone, Tensor], Tensor]:
    """`served(adapter, backbone, images)`: the logits of the mounted adapter, divided by its temperature."""

    def compute(adapter: Adapter, backbone: Backbone, images: Tensor) -> Tensor:
        swapper = ExactSwapper(backbone)
        swapper.mount(adapter)
        try:
            return adapter.image_logits(backbone, images).clone() / adapter.manifest.head.temperature
        finally:
            swapper.unmount()

    return compute


@pytest.fixture(scope="session")
def error_of() -> Callable[[Tensor, Tensor], float]:
    """`error_of(found, expected)`: the largest difference, relative to the largest expected number."""
    return lambda found, expected: float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="session")
def logits_error(
    images: Any, served: Any, error_of: Any
) -> Callable[[Callable[[Tensor], Tensor], Adapter, Backbone], float]:
    """`logits_error(network, adapter, backbone)`: how far the logits of another library's network are from ours."""

    def compute(network: Callable[[Tensor], Tensor], adapter: Adapter, backbone: Backbone) -> float:
        x = images(adapter)
        with torch.no_grad():
            return float(error_of(network(x), served(adapter, backbone, x)))

    return compute


@pytest.fixture(scope="session")
def base_of() -> Callable[..., nn.Module]:
    """`base_of(backbone, classes)`: what a user of timm has: the backbone's weights, and a new classifier."""

    def make(backbone: Backbone, classes: int) -> nn.Module:
        import timm

        model: nn.Module = timm.create_model(backbone.name, num_classes=classes)
        model.load_state_dict(backbone.module.state_dict(), strict=False)
        return model.eval()

    return make


@pytest.fixture(
    scope="session",
    params=["test_resnet-8-linear", "test_vit-1-cosine", "test_efficientnet-2-mlp", "resnet10t-3d-1-linear"],
)
def graph_case(request: pytest.FixtureRequest, small: Any, draw_adapter: Any) -> tuple[Adapter, Backbone]:
    """A network with an adapter on it that only a format of graphs holds: turned inputs, other heads, volumes."""
    name, orientations, kind = str(request.param).rsplit("-", 2)
    backbone: Backbone = small(name)
    parts = draw_adapter(backbone, "lora", labels=("a", "b", "c"))
    size = {"size": [64, 64], "depth": 4} if name.endswith("3d") else {}
    parts.manifest["preprocessing"] |= {"orientations": int(orientations)} | size
    weight, width = parts.tensors.pop("head.weight"), backbone.feature_dim
    bias = parts.tensors.pop("head.bias")
    parts.manifest["head"], head = {
        "linear": ({"kind": "linear"}, {"weight": weight, "bias": bias}),
        "cosine": ({"kind": "cosine", "dim": width}, {"prototypes": weight, "logit_scale": torch.tensor(2.0)}),
        "mlp": (
            {
                "kind": "mlp",
                "activation": "sigmoid",
                "layers": [
                    {"type": "leaky_relu", "negative_slope": 0.1},
                    {"type": "dropout", "p": 0.5},
                    {"type": "linear", "in_features": width, "out_features": 3},
                ],
            },
            {"2.weight": weight, "2.bias": bias},
        ),
    }[kind]
    parts.manifest["head"]["temperature"] = 1.7
    parts.tensors |= {f"head.{word}": tensor for word, tensor in head.items()}
    return admit(parts.dump(), backbone), backbone


@pytest.fixture
def graph_outputs(images: Any, served: Any) -> Callable[[Adapter, Backbone], tuple[Tensor, Tensor, Tensor]]:
    """`graph_outputs(adapter, backbone)`: five inputs, another number than it is traced with, logits and scores."""

    def compute(adapter: Adapter, backbone: Backbone) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.cat([images(adapter), images(adapter), images(adapter)])[:5]
        logits = served(adapter, backbone, x)
        softmax = adapter.manifest.head.activation == "softmax"
        return x, logits, logits.softmax(1) if softmax else logits.sigmoid()

    return compute
