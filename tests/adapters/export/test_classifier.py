"""timm's classifier in front of the adapter's labels, or a refusal where timm's network is another."""

from __future__ import annotations

from typing import Any

import pytest
import timm

from lensmount_adapters import Adapter, Backbone, load_backbone
from lensmount_adapters.errors import ExportError
from lensmount_adapters.export.classifier import classified


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext", "test_mambaout"])
def test_the_classifier_computes_the_adapter_s_logits(name: str, small: Any, draw_on: Any, logits_error: Any) -> None:
    backbone: Backbone = small(name)
    adapter: Adapter = draw_on(backbone, "head", labels=("a", "b", "c"))

    network = classified(adapter, backbone, "timm")

    assert logits_error(network.model, adapter, backbone) < 1e-5
    assert network.call() == f"timm.create_model('{name}', num_classes=3)"
    fresh = timm.create_model(network.name, **network.options)
    assert fresh.get_submodule(network.classifier) is fresh.get_classifier()


def test_a_network_without_its_layers_before_the_classifier_is_refused(draw_on: Any) -> None:
    """Lensmount leaves out the two 4096-wide layers of a VGG, so its features are not those of timm's classifier."""
    backbone = load_backbone("vgg11", "random:0")

    with pytest.raises(
        ExportError, match=r"vgg11, whose classifier is more than one linear layer.*Fix: export to onnx"
    ):
        classified(draw_on(backbone, "head"), backbone, "timm")


def test_another_input_size_of_a_transformer_is_part_of_the_call(draw_on: Any) -> None:
    backbone = load_backbone("test_vit@128", "random:0")

    network = classified(draw_on(backbone, "head"), backbone, "timm")

    assert (
        network.call(pretrained=True) == "timm.create_model('test_vit', num_classes=2, img_size=128, pretrained=True)"
    )
