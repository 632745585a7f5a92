"""A graph with folded norms and out-of-place activations computes the same, up to rounding."""

import pytest
import timm
import torch

from lensmount_adapters.graph.fold import fold_batch_norms, out_of_place
from lensmount_adapters.graph.segments import Segments

# the model and the first tensor of its branch
MODELS = (
    ("resnet34", "layer3.0.conv1.weight"),
    ("tf_efficientnet_lite0", "blocks.4.0.conv_pw.weight"),
    ("mobilenetv3_large_100", "blocks.4.0.conv_pw.weight"),
)


def model_and_images(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = timm.create_model(name, pretrained=False, num_classes=0).eval()
        return module, torch.randn(2, 3, *module.pretrained_cfg["input_size"][1:])


@pytest.mark.parametrize(("name", "adapted"), MODELS)
def test_folded_halves_compute_what_the_module_computes(name: str, adapted: str) -> None:
    module, images = model_and_images(name)
    for norm in (m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 1.5)
    module, images = module.double(), images.double()
    halves = Segments(module).halves({adapted})
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

    assert module.get_submodule("layer4.0.act1").inplace
    assert not branch.get_submodule("layer4.0.act1").inplace
    assert halves.trunk is not None
    with torch.inference_mode():
        assert torch.equal(branch(halves.trunk(images)), module(images))
