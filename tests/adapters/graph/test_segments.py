"""Trunk and branch together equal the module bit for bit."""

import threading

import pytest
import timm
import torch
from torch import Tensor, nn

from lensmount_adapters.errors import BackboneError
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.programs.cast import channels_last

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


class Viewed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 4, 2, stride=2)
        self.norm = nn.Sequential(nn.LayerNorm(4), nn.Identity())
        self.token = nn.Parameter(torch.ones(1, 1, 4))

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.embed(images).permute(0, 2, 3, 1))
        features: Tensor = (x.view(2, -1, 4) + self.token).mean(1)
        return features


def test_a_view_of_what_passes_the_cut_works_with_the_channels_last() -> None:
    """timm's ViTs view the output of their patch embedding before they add positions."""
    module = Viewed()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    halves = Segments(module).halves({"token"})
    assert halves.trunk is not None
    with torch.inference_mode():
        passed = channels_last(halves.trunk(images))  # as executors do
        assert torch.allclose(halves.branch(passed), module(images), atol=1e-6)


def test_a_part_between_two_cuts_is_what_both_halves_share() -> None:
    module, images = model_and_images("resnet10t")
    segments = Segments(module)
    start, end = segments.cuts[3], segments.cuts[-4]

    with torch.inference_mode():
        front = segments.part(None, start)(images)
        middle = segments.part(start, end)(front)
        result = segments.halves_at(end).branch(middle)

        assert torch.equal(middle, segments.part(None, end)(images))
        assert torch.equal(result, module(images))
        assert segments.shapes(images)[end] == middle.shape
        assert sorted(segments.shapes(images)) == segments.cuts


def test_modules_work_in_other_threads_while_one_is_traced() -> None:
    """torch.fx replaces `Module.__call__` of the whole process: the head of an answer is called in another thread."""
    tracing, called = threading.Event(), threading.Event()

    class Waits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            tracing.set()
            called.wait(30)
            return self.layer(x).relu()  # type: ignore[no-any-return]  # nn.Module's call gives Any

    module, head, x = Waits(), nn.Linear(3, 2), torch.ones(1, 3)
    found: list[Segments] = []
    thread = threading.Thread(target=lambda: found.append(Segments(module)))
    thread.start()
    tracing.wait(30)
    scores = head(x), module.layer(x)
    assert not called.is_set()
    called.set()
    thread.join(30)

    assert torch.equal(scores[0], torch.nn.functional.linear(x, head.weight, head.bias))
    assert torch.equal(scores[1], torch.nn.functional.linear(x, module.layer.weight, module.layer.bias))
    assert torch.equal(found[0].halves({"layer.weight"}).branch(x), scores[1].relu())
