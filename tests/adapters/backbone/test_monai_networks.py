"""MONAI's networks as backbones are the library's own, number for number."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest
import torch

if find_spec("monai") is None:  # to import it takes seconds, in every process that collects this file
    pytest.skip('needs MONAI: pip install "lensmount[monai]"', allow_module_level=True)

from lensmount_adapters import Backbone, load_backbone
from lensmount_adapters.backbone.monai_networks import build
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.graph.segments import Segments

NETWORKS = ("monai_unet", "monai_basic_unet")


@pytest.fixture(scope="module", params=NETWORKS)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return load_backbone(request.param, "random:0")


def test_the_network_equals_monais_own_and_so_does_its_trace(backbone: Backbone) -> None:
    from monai.networks.nets import BasicUNet, UNet

    if backbone.name == "monai_unet":
        stock = UNet(2, 3, 16, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2)
    else:
        stock = BasicUNet(2, 3, 16, act=("LeakyReLU", {"negative_slope": 0.1}))
    stock.load_state_dict(backbone.module.state_dict())
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = stock.eval()(images)
        assert torch.equal(backbone.module(images), expected)
        assert torch.equal(Segments(backbone.module).halves_at(None).branch(images), expected)
    assert (backbone.dense, backbone.feature_dim) == (True, 16)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.networks", None)  # as if it were not installed
    with pytest.raises(BackboneError, match=r'need monai.*pip install "lensmount\[monai\]"'):
        build("monai_unet")


def test_an_image_must_be_a_multiple_of_the_step_and_gives_features_for_every_pixel(backbone: Backbone) -> None:
    assert backbone.size_step == 32
    assert backbone.features(torch.zeros(1, 3, 32, 64)).shape == (1, 16, 32, 64)
