"""The class activation map equals Captum's Grad-CAM, and one written with hooks and autograd alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from lensmount_adapters import Adapter, Backbone, admit, load_backbone
from lensmount_adapters.explain.cam import Cam
from lensmount_adapters.explain.network import Network

if TYPE_CHECKING:
    from tests.adapters.explain.conftest import DrawExplained, PlainNetwork

ZOO = Path(__file__).parents[3] / "adapters" / "zoo"
LAST = {"resnet10t": "layer4", "resnet34": "layer4", "tf_efficientnet_lite0": "bn2"}
RELATIVE = 1e-4


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    return load_backbone()


@pytest.fixture(scope="module")
def resnet34() -> Backbone:
    return load_backbone("resnet34", "random:0")


def of_hooks(network: nn.Module, layer: nn.Module, image: Tensor, label: int) -> Tensor:
    """Grad-CAM (arXiv 1610.02391) without its last step, the cut at zero."""
    kept: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _, inputs, maps: kept.append(maps.requires_grad_()))
    logits = network(image[None])
    hook.remove()
    (gradient,) = torch.autograd.grad(logits[0, label], kept[0])
    return (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1)[0].detach()


def of_captum(network: nn.Module, layer: nn.Module, image: Tensor, label: int) -> Tensor:
    attr = pytest.importorskip("captum.attr")
    found: Tensor = attr.LayerGradCam(network, layer).attribute(image[None], target=label)
    return found[0, 0].detach()


def check(backbone: Backbone, adapter: Adapter, network: nn.Module, image: Tensor, oracle: str) -> None:
    layer = network.get_submodule(f"0.{LAST[backbone.name]}")
    adapted = Network(backbone).with_adapter(adapter)
    for label in range(len(adapter.manifest.labels)):
        expected = {"hooks": of_hooks, "captum": of_captum}[oracle](network, layer, image, label)

        found = Cam().values(adapted, image, label)

        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) <= RELATIVE * float(expected.abs().max())


ORACLES = pytest.mark.parametrize("oracle", ["hooks", "captum"])


@ORACLES
@pytest.mark.parametrize("name", ["histology", "malaria", "smoking"])
def test_it_equals_grad_cam_for_the_shipped_adapters(
    name: str, oracle: str, lite0: Backbone, plain_network: PlainNetwork
) -> None:
    adapter = admit((ZOO / f"{name}.safetensors").read_bytes(), lite0)
    image = torch.rand(adapter.manifest.preprocessing.input_shape) * 2 - 1

    check(lite0, adapter, plain_network(lite0, adapter), image, oracle)


@ORACLES
@pytest.mark.parametrize("head", ["linear", "mlp", "cosine"])
def test_it_equals_grad_cam_for_every_kind_of_head(
    head: str, oracle: str, resnet: Backbone, draw_explained: DrawExplained, plain_network: PlainNetwork, image: Tensor
) -> None:
    adapter = draw_explained(resnet, head)

    check(resnet, adapter, plain_network(resnet, adapter), image, oracle)


@ORACLES
def test_it_equals_grad_cam_for_resnet34(
    oracle: str, resnet34: Backbone, draw_explained: DrawExplained, plain_network: PlainNetwork
) -> None:
    adapter = draw_explained(resnet34)

    check(resnet34, adapter, plain_network(resnet34, adapter), torch.randn(3, 96, 64), oracle)


def test_its_values_add_up_to_the_logit_without_the_bias(
    resnet: Backbone, draw_explained: DrawExplained, plain_network: PlainNetwork, image: Tensor
) -> None:
    adapter = draw_explained(resnet)
    with torch.no_grad():
        logits = plain_network(resnet, adapter)(image[None])[0] - adapter.head.bias

    sums = [float(Cam().values(Network(resnet).with_adapter(adapter), image, label).sum()) for label in range(3)]

    torch.testing.assert_close(torch.tensor(sums), logits, rtol=1e-4, atol=1e-4)


def test_with_eight_orientations_it_is_their_mean_turned_back(
    resnet: Backbone, draw_explained: DrawExplained, plain_network: PlainNetwork, image: Tensor
) -> None:
    adapter = draw_explained(resnet, orientations=8)
    network = plain_network(resnet, adapter)
    layer = network.get_submodule("0.layer4")
    maps = []
    for quarter in range(4):
        turned = torch.rot90(image, quarter, (1, 2))
        maps.append(torch.rot90(of_hooks(network, layer, turned, 2), -quarter))
        mirrored = of_hooks(network, layer, turned.flip(2), 2)
        maps.append(torch.rot90(mirrored.flip(1), -quarter))

    found = Cam().values(Network(resnet).with_adapter(adapter), image, 2)

    torch.testing.assert_close(found, torch.stack(maps).mean(0), rtol=1e-4, atol=1e-5)
