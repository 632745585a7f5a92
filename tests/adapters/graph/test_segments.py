"""Trunk and branch together equal the module bit for bit."""

import pytest
import timm
import torch

from lensmount_adapters.errors import BackboneError
from lensmount_adapters.graph.segments import Segments

# the model, a tensor in the middle of it, and the least number of layers after which it can be cut
MODELS = (
    ("resnet34", "layer3.0.conv1.weight", 39),
    ("vgg16", "features.24.weight", 37),
    ("tf_efficientnet_lite0", "blocks.4.0.conv_pw.weight", 70),
    ("vit_base_patch32_clip_224", "blocks.6.attn.qkv.weight", 30),
    ("convnext_tiny", "stages.3.blocks.0.mlp.fc1.weight", 45),
    ("swin_tiny_patch4_window7_224", "layers.3.blocks.0.attn.qkv.weight", 37),
    ("mobilenetv3_large_100", "blocks.4.0.conv_pw.weight", 60),
)


def model_and_images(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = timm.create_model(name, pretrained=False, num_classes=0).eval()
        return module, torch.randn(2, 3, *module.pretrained_cfg["input_size"][1:])


@pytest.mark.parametrize(("name", "adapted", "cuts"), MODELS)
def test_the_branch_of_the_trunk_is_the_module_bit_for_bit(name: str, adapted: str, cuts: int) -> None:
    module, images = model_and_images(name)
    segments = Segments(module)

    halves = segments.halves({adapted})

    assert len(segments.cuts) >= cuts
    assert halves.trunk is not None
    assert adapted in dict(halves.branch.named_parameters())
    assert adapted not in dict(halves.trunk.named_parameters())
    with torch.inference_mode():
        assert torch.equal(halves.branch(halves.trunk(images)), module(images))


def test_with_the_first_layer_adapted_there_is_no_trunk() -> None:
    module, images = model_and_images("resnet34")

    halves = Segments(module).halves({"conv1.weight", "layer4.0.conv1.weight"})

    assert halves.trunk is None
    with torch.inference_mode():
        assert torch.equal(halves.branch(images), module(images))


def test_with_nothing_adapted_the_whole_module_is_trunk() -> None:
    module, images = model_and_images("resnet34")

    halves = Segments(module).halves(set())

    assert halves.trunk is not None
    assert not list(halves.branch.parameters())
    with torch.inference_mode():
        assert torch.equal(halves.branch(halves.trunk(images)), module(images))


def test_a_module_that_cannot_be_traced_is_an_error() -> None:
    class Wilful(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(BackboneError, match="cannot be traced"):
        Segments(Wilful())
