"""The backbone as timm's own model with a classifier for the adapter's labels, for formats that build on timm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.merged import merged_module
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.backbone.weights import config_of
from lensmount_adapters.export.target import GRAPHS, cannot_hold, linear_head

TOLERANCE = 1e-4  # of the largest logit: how far timm's logits may be from the adapter's on one random image


@dataclass(frozen=True, slots=True, eq=False)
class Classified:
    """`model` computes logits [N, classes] of images [N, 3, height, width]; `classifier` is its last layer's path.

    `timm.create_model(name, **options)` makes the same network with new weights.
    """

    model: nn.Module
    classifier: str
    name: str
    options: dict[str, Any]

    def call(self, **more: Any) -> str:
        """The call of timm that makes the network, as a line of Python."""
        options = "".join(f", {word}={value!r}" for word, value in (self.options | more).items())
        return f"timm.create_model({self.name!r}{options})"


def classified(adapter: Adapter, backbone: Backbone, to: str) -> Classified:
    """The merged backbone with timm's classifier, which holds the adapter's head.

    Raises ExportError if the backbone is not timm's, or if its classifier is not one linear layer on our features.
    """
    weight, bias = linear_head(adapter, to)
    name, _, side = backbone.name.partition("@")
    if not timm.is_model(name):
        raise cannot_hold(to, f"the backbone {backbone.name}, which timm does not have", "a network of timm", GRAPHS)
    options: dict[str, Any] = {"num_classes": len(bias)} | ({"img_size": int(side)} if side else {})
    model, path = merged_module(adapter, backbone), config_of(backbone.module).get("classifier")
    images = torch.randn(1, *adapter.manifest.preprocessing.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = nn.functional.linear(model(images), weight, bias)
        if not _has_head(model, path, weight, bias) or not _as_made_by_timm(model, name, options):
            found = f"{backbone.name}, whose classifier is more than one linear layer on its features"
            raise cannot_hold(to, found, "a network with such a classifier", GRAPHS)
        difference = float((model(images) - expected).abs().max() / expected.abs().max())
    if not difference <= TOLERANCE:
        found = f"{backbone.name}, whose classifier changes the logits by {difference:.1e} of the largest"
        raise cannot_hold(to, found, "the same logits", GRAPHS)
    assert isinstance(path, str)
    return Classified(model, path, name, options)


def _has_head(model: nn.Module, path: object, weight: Tensor, bias: Tensor) -> bool:
    """Give the network a classifier with these values. False if its classifier is another kind of layer."""
    model.reset_classifier(len(bias))  # type: ignore[operator]  # timm's models have this method
    head = model.get_submodule(path) if isinstance(path, str) else None
    if not isinstance(head, nn.Linear) or head.weight.shape != weight.shape:
        return False
    head.weight, head.bias = (nn.Parameter(tensor.clone(), requires_grad=False) for tensor in (weight, bias))
    model.eval()
    return True


def _as_made_by_timm(model: nn.Module, name: str, options: dict[str, Any]) -> bool:
    """True if the network has the tensors of one that timm makes, so that its weights load there."""
    with torch.device("meta"):
        fresh: nn.Module = timm.create_model(name, pretrained=False, **options)
    return _shapes(model) == _shapes(fresh)


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}
