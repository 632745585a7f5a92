"""LayerCAM equals its formula, computed with a hook and autograd on the plain network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Backbone
from lensmount_adapters.explain.layercam import LayerCam
from lensmount_adapters.explain.network import Network

if TYPE_CHECKING:
    from tests.adapters.explain.conftest import DrawExplained, PlainNetwork


@pytest.mark.parametrize("head", ["linear", "mlp", "cosine"])
def test_it_is_the_sum_of_maps_times_their_positive_gradients(
    head: str, resnet: Backbone, draw_explained: DrawExplained, plain_network: PlainNetwork, image: Tensor
) -> None:
    adapter = draw_explained(resnet, head)
    network = plain_network(resnet, adapter)
    kept: list[Tensor] = []

    def keep(_: object, inputs: object, maps: Tensor) -> Tensor:
        kept.append(maps.detach().requires_grad_())
        return kept[0]

    network.get_submodule("0.layer3").register_forward_hook(keep)
    for label in range(3):
        kept.clear()
        (gradient,) = torch.autograd.grad(network(image[None])[0, label], kept[0])
        expected = (gradient.clamp(min=0) * kept[0].detach()).sum(1)[0].clamp(min=0)

        found = LayerCam().values(Network(resnet).with_adapter(adapter), image, label)

        assert found.shape == (4, 4)  # layer3 of 64 pixels; layer4 has 2 x 2
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * float(expected.max()))
