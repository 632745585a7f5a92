"""The network with an adapter is the backbone that it is mounted on, and the resident backbone is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Backbone, ExactSwapper, load_backbone
from lensmount_adapters.errors import ExplainError
from lensmount_adapters.explain.explainer import METHODS
from lensmount_adapters.explain.network import Network

if TYPE_CHECKING:
    from tests.adapters.explain.conftest import DrawExplained


def test_its_scores_are_those_of_the_mounted_adapter(
    resnet: Backbone, draw_explained: DrawExplained, image: Tensor
) -> None:
    adapter = draw_explained(resnet, orientations=8)
    twin = resnet.twin()
    ExactSwapper(twin).mount(adapter)

    scores = Network(resnet).with_adapter(adapter).scores(image[None])

    torch.testing.assert_close(scores, adapter.image_scores(twin, image[None]), rtol=1e-5, atol=1e-6)


def test_it_shares_the_memory_of_the_backbone_and_leaves_it_as_it_was(draw_explained: DrawExplained) -> None:
    backbone = load_backbone("test_efficientnet", "random:0")
    backbone.keep_nothing()
    adapter = draw_explained(backbone)
    network = Network(backbone)
    image = torch.randn(adapter.manifest.preprocessing.input_shape)

    for method in METHODS.values():
        method.values(network.with_adapter(adapter), image, 0)

    shared = {tensor.data_ptr() for tensor in backbone.tensors.values()}
    assert {parameter.data_ptr() for parameter in network.module.parameters()} <= shared
    assert backbone.changed() == []
    for module in backbone.module.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
        assert all(parameter.grad is None for parameter in module.parameters())


def test_an_adapter_that_is_mounted_on_the_resident_weights_does_not_change_it(
    draw_explained: DrawExplained, image: Tensor
) -> None:
    backbone = load_backbone("resnet10t", "random:0")
    adapter, other = draw_explained(backbone), draw_explained(backbone, "mlp")
    expected = Network(backbone).with_adapter(adapter).scores(image[None])
    swapper = ExactSwapper(backbone)
    swapper.mount(other)
    network = Network(backbone)  # made while another adapter is in the live weights

    assert torch.equal(network.with_adapter(adapter).scores(image[None]), expected)


def test_a_backbone_that_cannot_be_traced_is_refused_with_a_method_that_works(
    resnet: Backbone, draw_explained: DrawExplained, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = draw_explained(resnet)
    network = Network(resnet)
    plain = type(network.module).forward
    monkeypatch.setattr(type(network.module), "forward", lambda self, x: plain(self, x if x.sum() > 0 else x * 1))

    with pytest.raises(ExplainError, match=r"cannot be traced.*Fix: the method occlusion"):
        METHODS["cam"].values(network.with_adapter(adapter), image, 0)

    assert METHODS["occlusion"].values(network.with_adapter(adapter), image, 0).shape == (8, 8)
