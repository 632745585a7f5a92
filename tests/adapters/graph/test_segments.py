"""Trunk and branch are the module, bit for bit; folded, they are it up to rounding."""

import pytest
import timm
import torch

from lensmount_adapters.errors import BackboneError
from lensmount_adapters.graph.fold import fold_batch_norms, out_of_place
from lensmount_adapters.graph.segments import Segments

# the model, a tensor in the middle of it, and how many layers it can at least be cut behind
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


@pytest.mark.parametrize("name", ["resnet34", "tf_efficientnet_lite0", "mobilenetv3_large_100"])
def test_folded_halves_answer_as_the_module_does(name: str) -> None:
    module, images = model_and_images(name)
    for norm in (m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 1.5)
    module, images = module.double(), images.double()
    halves = Segments(module).halves({MODELS[[m[0] for m in MODELS].index(name)][1]})
    assert halves.trunk is not None

    trunk, branch = fold_batch_norms(halves.trunk), out_of_place(fold_batch_norms(halves.branch))

    left = [n for n in (*trunk.graph.nodes, *branch.graph.nodes) if n.op == "call_module" and "bn" in str(n.target)]
    assert all(str(n.target).endswith((".act", ".drop")) or "drop" in str(n.target) for n in left), left
    with torch.inference_mode():
        expected = module(images)
        assert (branch(trunk(images)) - expected).abs().max() < 1e-10 * expected.abs().max()


def test_a_norm_that_trains_is_not_folded() -> None:
    module, images = model_and_images("resnet34")
    halves = Segments(module).halves({"layer4.0.conv1.weight"})
    assert halves.trunk is not None

    branch = fold_batch_norms(halves.branch, {"layer4.0.bn1.weight", "layer4.1.bn2.bias"})

    norms = {str(n.target) for n in branch.graph.nodes if n.op == "call_module" and ".bn" in str(n.target)}
    assert norms == {"layer4.0.bn1", "layer4.1.bn2"}
    with torch.inference_mode():
        torch.testing.assert_close(branch(halves.trunk(images)), module(images), rtol=1e-4, atol=1e-4)


def test_out_of_place_leaves_the_shared_layers_as_they_are() -> None:
    module, images = model_and_images("resnet34")
    halves = Segments(module).halves({"layer4.0.conv1.weight"})

    branch = out_of_place(halves.branch)

    assert module.layer4[0].act1.inplace
    assert not branch.get_submodule("layer4.0.act1").inplace
    assert halves.trunk is not None
    with torch.inference_mode():
        assert torch.equal(branch(halves.trunk(images)), module(images))


def test_with_the_first_layer_adapted_there_is_no_trunk() -> None:
    module, images = model_and_images("resnet34")

    halves = Segments(module).halves({"conv1.weight", "layer4.0.conv1.weight"})

    assert halves.trunk is None
    with torch.inference_mode():
        assert torch.equal(halves.branch(images), module(images))


def test_with_nothing_adapted_all_is_trunk() -> None:
    module, images = model_and_images("resnet34")

    halves = Segments(module).halves(set())

    assert halves.trunk is not None
    assert not list(halves.branch.parameters())
    with torch.inference_mode():
        assert torch.equal(halves.branch(halves.trunk(images)), module(images))


def test_a_module_that_cannot_be_traced_is_named_so() -> None:
    class Wilful(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(BackboneError, match="cannot be traced"):
        Segments(Wilful())
