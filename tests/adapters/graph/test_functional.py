"""A branch as a function of its weights gives the backbone's results, with and without adapters, and writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lensmount_adapters import Adapter, Backbone, ExactSwapper, Preprocessing, admit, load_backbone
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.graph.functional import FunctionalBranch, frozen, functional_branch
from lensmount_adapters.graph.segments import Segments

# the model, the first tensor of its branch, the modules that a drawn adapter may touch
MODELS = (
    ("resnet34", "layer3.0.conv1.weight", r"layer[34]\..*"),
    ("vgg11", "features.16.weight", r"features\.(16|18)"),
    ("tf_efficientnet_lite0", "blocks.4.0.conv_pw.weight", r"blocks\.[456]\..*|conv_head|bn2"),
    ("vit_xsmall_patch16_clip_224", "blocks.6.attn.qkv.weight", r"blocks\.[6-9]\..*"),
    ("convnext_tiny", "stages.3.blocks.0.mlp.fc1.weight", r"stages\.3\.blocks\.[012]\.(mlp|norm).*"),
    (
        "swin_tiny_patch4_window7_224",
        "layers.3.blocks.0.attn.qkv.weight",
        r"layers\.3\.blocks\..*\.(qkv|fc.|proj)|norm",
    ),
    ("mobilenetv3_large_100", "blocks.4.0.conv_pw.weight", r"blocks\.[456]\..*|conv_head"),
)
SMALL = (
    ("test_efficientnet", "conv_stem.weight"),
    ("test_resnet", "conv1.0.weight"),
    ("test_vit", "patch_embed.proj.weight"),
    ("test_convnext", "stem.0.weight"),
)
BACKBONE = r"(?!head\.).*"  # a delta called head.* would be the adapter's own head
METHODS = ("lora", "lora-shared", "lora-tucker", "bias", "norm", "statistics", "mixed")
DrawAdapter = Callable[..., Any]


def full_branch(backbone: Backbone) -> FunctionalBranch:
    """The backbone without a trunk."""
    return functional_branch(Segments(backbone.module).halves(set(backbone.targets)).branch, backbone)


def images_for(backbone: Backbone, count: int = 2) -> Tensor:
    return torch.randn(count, 3, *backbone.preprocessing.size, generator=torch.Generator().manual_seed(0))


def features_of(branch: FunctionalBranch, x: Tensor, merged: dict[str, Tensor] | None = None) -> Tensor:
    assert (merged or {}).keys() <= set(branch.inputs)
    weights = dict(zip(branch.inputs, branch.base, strict=True)) | (merged or {})
    with torch.inference_mode():
        features: Tensor = branch.module(x, *weights.values())
    return features


def mounted_features(backbone: Backbone, adapter: Adapter, images: Tensor) -> Tensor:
    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    features = backbone.features(images)
    swapper.unmount()
    return features


def assert_close(found: Tensor, expected: Tensor, bound: float = 1e-5) -> None:
    assert found.dtype is torch.float32
    assert torch.isfinite(expected).all()
    assert (found - expected).abs().max() <= bound * expected.abs().max()


@pytest.mark.parametrize(("name", "first", "modules"), MODELS)
def test_trunk_and_branch_give_the_backbone_s_features_with_and_without_an_adapter(
    name: str, first: str, modules: str, draw_adapter: DrawAdapter, randomised: Callable[[Backbone], Backbone]
) -> None:
    backbone = randomised(load_backbone(name, "random:0"))
    adapter = admit(draw_adapter(backbone, "mixed", modules=modules, size=0.1).dump(), backbone)
    images = images_for(backbone)
    expected = backbone.features(images), mounted_features(backbone, adapter, images)

    halves = Segments(backbone.module).halves({first})
    assert halves.trunk is not None
    trunk, branch = frozen(halves.trunk), functional_branch(halves.branch, backbone)

    with torch.inference_mode():
        activations = trunk(images)
    assert_close(features_of(branch, activations), expected[0])
    assert branch.covers(adapter.deltas)
    assert_close(features_of(branch, activations, branch.merged(adapter.deltas)), expected[1])
    assert (expected[0] - expected[1]).abs().max() > 1e-2 * expected[0].abs().max()  # the adapter does something
    left = [node for part in (trunk, branch.module) for node in part.graph.nodes if node.op == "call_module"]
    assert not [node for node in left if "bn" in str(node.target) and not str(node.target).endswith(".act")]
    assert backbone.changed() == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("name", "first"), [*SMALL, ("every_layer", "conv2d.weight")])
def test_every_kind_of_delta_gives_what_mounting_gives(
    name: str,
    first: str,
    method: str,
    every_layer: Callable[..., Backbone],
    draw_adapter: DrawAdapter,
    digest_of_state: Callable[[Backbone], str],
    randomised: Callable[[Backbone], Backbone],
) -> None:
    backbone = randomised(every_layer() if name == "every_layer" else load_backbone(name, "random:0"))
    if method == "statistics" and not any("running" in target for target in backbone.targets):
        pytest.skip("without BatchNorm there are no statistics")
    size = 0.8 if name == "test_vit" else 0.1  # with 0.1, LoRA on test_vit moves no score by 1e-3
    adapter = admit(draw_adapter(backbone, method, modules=BACKBONE, size=size).dump(), backbone)
    branch, images, before = full_branch(backbone), images_for(backbone), digest_of_state(backbone)
    assert first.rpartition(".")[0] in branch.layers

    found = features_of(branch, images, branch.merged(adapter.deltas))

    assert digest_of_state(backbone) == before
    assert branch.covers(adapter.deltas)
    assert_close(found, mounted_features(backbone, adapter, images))
    bare = backbone.features(images)
    assert_close(features_of(branch, images), bare)
    assert (found - bare).abs().max() > 1e-3 * bare.abs().max()  # the adapter does something


@pytest.mark.parametrize("method", METHODS)
def test_merged_weights_are_the_folded_ones_computed_in_float64(
    method: str,
    every_layer: Callable[..., Backbone],
    draw_adapter: DrawAdapter,
    merged64: Callable[..., Tensor],
    randomised: Callable[[Backbone], Backbone],
) -> None:
    backbone = randomised(every_layer())
    parts = draw_adapter(backbone, method)
    deltas = admit(parts.dump(), backbone).deltas
    branch = full_branch(backbone)
    norms = {"conv2d": "batch_norm2d", "conv1d": "batch_norm1d", "conv3d": "batch_norm3d"}

    def live(name: str) -> Tensor:
        touched = name in {delta.target.name for delta in deltas}
        return merged64(backbone, parts, name) if touched else backbone.base([name])[name].double()

    def folded(name: str) -> Tensor:
        module, _, last = name.rpartition(".")
        if module not in norms:
            return live(name)
        mean, var, gamma, beta = (
            live(f"{norms[module]}.{n}") for n in ("running_mean", "running_var", "weight", "bias")
        )
        gain = gamma / torch.sqrt(var + 1e-5)
        weight = live(f"{module}.weight")
        return (
            (live(f"{module}.bias") - mean) * gain + beta
            if last == "bias"
            else torch.einsum("o,o...->o...", gain, weight)
        )

    merged = branch.merged(deltas)

    for name, base in zip(branch.inputs, branch.base, strict=True):
        assert_close(merged.get(name, base), folded(name).float(), 1e-6)
    assert {layer.norm.name for layer in branch.layers.values() if layer.norm} == set(norms.values())


@pytest.mark.parametrize("method", ["lora", "mixed"])
def test_merged_writes_into_the_buffers_it_is_given(
    method: str,
    every_layer: Callable[..., Backbone],
    draw_adapter: DrawAdapter,
    randomised: Callable[[Backbone], Backbone],
) -> None:
    backbone = randomised(every_layer())
    deltas = admit(draw_adapter(backbone, method).dump(), backbone).deltas
    branch = full_branch(backbone)
    buffers = {name: torch.full_like(base, torch.nan) for name, base in zip(branch.inputs, branch.base, strict=True)}

    merged = branch.merged(deltas, buffers)

    expected = branch.merged(deltas)
    assert merged.keys() == expected.keys()
    for name, tensor in merged.items():
        assert tensor is buffers[name]
        assert torch.equal(tensor, expected[name])


def test_base_is_never_written_and_stays_what_it_is_while_an_adapter_is_mounted(
    every_layer: Callable[..., Backbone], draw_adapter: DrawAdapter, randomised: Callable[[Backbone], Backbone]
) -> None:
    backbone = randomised(every_layer())
    first, second = (admit(draw_adapter(backbone, "mixed", seed=seed).dump(), backbone) for seed in (1, 2))
    images = images_for(backbone)
    expected, features = mounted_features(backbone, second, images), backbone.features(images)
    early = full_branch(backbone)

    ExactSwapper(backbone).mount(first)
    late = full_branch(backbone)  # built with another adapter on the live weights

    for branch in (early, late):
        assert_close(features_of(branch, images, branch.merged(second.deltas)), expected)
        assert_close(features_of(branch, images), features)


def test_a_norm_whose_scale_is_zero_can_still_be_adapted(
    every_layer: Callable[..., Backbone], draw_adapter: DrawAdapter
) -> None:
    backbone = every_layer()
    nn.init.zeros_(backbone.module.get_submodule("batch_norm2d").weight)  # type: ignore[arg-type]  # typed as a module
    backbone = Backbone(backbone.name, backbone.module, backbone.preprocessing, backbone.dtype)
    adapter = admit(draw_adapter(backbone, "norm").dump(), backbone)
    branch, images = full_branch(backbone), images_for(backbone)

    assert_close(
        features_of(branch, images, branch.merged(adapter.deltas)), mounted_features(backbone, adapter, images)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_trunk_and_branch_of_a_half_precision_backbone_are_float32(
    dtype: torch.dtype, draw_adapter: DrawAdapter, randomised: Callable[[Backbone], Backbone]
) -> None:
    """Its weights are exact in float32, so only the arithmetic is finer."""
    half = randomised(
        load_backbone("test_convnext", "random:0", dtype=dtype)
    )  # with layer scales, which are not inputs
    double = load_backbone("test_convnext", "random:0").module.double()
    double.load_state_dict({name: tensor.double() for name, tensor in half.module.state_dict().items()})
    images = images_for(half)
    halves = Segments(half.module).halves({"stages.2.blocks.0.conv_dw.weight"})
    assert halves.trunk is not None

    trunk, branch = frozen(halves.trunk), functional_branch(halves.branch, half)

    with torch.inference_mode():
        assert_close(features_of(branch, trunk(images)), double(images.double()).float())
    assert {tensor.dtype for part in (trunk, branch.module) for tensor in part.state_dict().values()} == {torch.float32}
    assert {tensor.dtype for tensor in half.module.state_dict().values()} == {dtype}


class Unusual(nn.Module):
    """A layer before two norms, a norm after two layers, a norm with nothing before it, and reflected padding."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.BatchNorm2d(3)
        self.shared = nn.Conv2d(3, 3, 3, padding=1)
        self.first, self.second, self.alone = (nn.BatchNorm2d(3) for _ in range(3))
        self.one, self.two = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.mirrored = nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")
        self.pretrained_cfg: dict[str, Any] = {}

    def forward(self, x: Tensor, scale: float = 1.0, mask: Tensor | None = None) -> Tensor:
        x = self.second(self.shared(F.relu(self.first(self.shared(self.before(x))))))
        x = self.alone(self.one(x)) + self.alone(self.two(x))
        mirrored: Tensor = self.mirrored(x)
        return mirrored.mean((2, 3)) * scale


@pytest.fixture
def unusual(randomised: Callable[[Backbone], Backbone]) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Unusual()
    rule = Preprocessing(size=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return randomised(Backbone("unusual", module, rule, torch.float32))


def test_a_layer_that_is_used_twice_keeps_one_weight_and_is_not_folded(
    unusual: Backbone, draw_adapter: DrawAdapter
) -> None:
    adapter = admit(draw_adapter(unusual, "mixed", seed=1, rank=2, modules="(?!mirrored).*").dump(), unusual)
    branch, images = full_branch(unusual), images_for(unusual)

    assert not [layer for layer in branch.layers.values() if layer.norm]
    assert len(branch.layers["shared"].nodes) == len(branch.layers["alone"].nodes) == 2
    assert_close(features_of(branch, images), unusual.features(images))
    assert branch.covers(adapter.deltas)
    assert_close(features_of(branch, images, branch.merged(adapter.deltas)), mounted_features(unusual, adapter, images))


def test_a_layer_that_cannot_be_rewritten_is_not_covered(unusual: Backbone, draw_adapter: DrawAdapter) -> None:
    adapter = admit(draw_adapter(unusual, modules="mirrored|one").dump(), unusual)
    branch = full_branch(unusual)

    assert not branch.covers(adapter.deltas)
    with pytest.raises(BackboneError, match=r"mirrored\.weight: found a delta .* Fix: check covers"):
        branch.merged(adapter.deltas)


def test_casting_trunk_and_branch_leaves_the_backbone_as_it_is(unusual: Backbone) -> None:
    trunk, branch = frozen(Segments(unusual.module).halves({"two.weight"}).branch), full_branch(unusual)
    shared = branch.module.get_submodule("mirrored").weight
    assert isinstance(shared, Tensor)
    assert shared.data_ptr() == unusual.tensors["mirrored.weight"].data_ptr()  # it shares the backbone's memory

    for module in (trunk, branch.module):
        module.to(torch.bfloat16)

    assert branch.module.get_submodule("mirrored").weight.dtype is torch.bfloat16
    assert unusual.changed() == []
    assert {tensor.dtype for tensor in unusual.tensors.values()} == {torch.float32}


def test_a_delta_of_a_layer_before_the_branch_is_not_covered(draw_adapter: DrawAdapter) -> None:
    backbone = load_backbone("test_resnet", "random:0")
    adapter = admit(draw_adapter(backbone, modules=r"layer1\..*").dump(), backbone)

    assert not functional_branch(Segments(backbone.module).halves({"layer2.0.conv1.weight"}).branch, backbone).covers(
        adapter.deltas
    )


def test_gain_and_shift_are_the_layer_without_its_weight(
    every_layer: Callable[..., Backbone], draw_adapter: DrawAdapter, randomised: Callable[[Backbone], Backbone]
) -> None:
    backbone = randomised(every_layer())
    deltas = admit(draw_adapter(backbone, "mixed", seed=2).dump(), backbone).deltas
    branch = full_branch(backbone)
    unfolded = {d.target.name: d.merged(backbone.tensors[d.target.name]) for d in deltas}

    for layer in (branch.layers["conv2d"], branch.layers["conv1d"], branch.layers["conv3d"]):
        gain, shift = branch.gain_and_shift(layer, deltas)
        merged, weight = branch.merged(deltas), f"{layer.module}.weight"
        live = unfolded.get(weight, backbone.tensors[weight])
        base = dict(zip(branch.inputs, branch.base, strict=True))
        assert_close(torch.einsum("o,o...->o...", gain, live), merged.get(weight, base[weight]), 1e-6)
        assert_close(shift, merged.get(f"{layer.module}.bias", base[f"{layer.module}.bias"]), 1e-6)
    with pytest.raises(ValueError, match="linear: found no folded norm"):
        branch.gain_and_shift(branch.layers["linear"], deltas)


def test_the_trunk_writes_neither_its_images_nor_the_backbone(
    digest_of_state: Callable[[Backbone], str], randomised: Callable[[Backbone], Backbone]
) -> None:
    backbone = randomised(load_backbone("test_resnet", "random:0"))  # with activations in place
    halves = Segments(backbone.module).halves({"layer3.0.conv1.weight"})
    assert halves.trunk is not None
    before, images = digest_of_state(backbone), images_for(backbone)
    trunk, branch = frozen(halves.trunk), functional_branch(halves.branch, backbone)
    with torch.inference_mode():
        activations = trunk(images)
    kept = activations.clone()

    features_of(branch, activations)

    assert torch.equal(images, images_for(backbone))
    assert torch.equal(activations, kept)
    assert digest_of_state(backbone) == before
    assert not any(node.op == "get_attr" and "bn" in str(node.target) for node in trunk.graph.nodes)


@pytest.mark.filterwarnings("ignore")  # tracing warns that Python values become constants
@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_openvino_runs_a_branch_with_weights_as_inputs(
    name: str, draw_adapter: DrawAdapter, randomised: Callable[[Backbone], Backbone]
) -> None:
    openvino = pytest.importorskip("openvino")
    backbone = randomised(load_backbone(name, "random:0"))
    adapter = admit(draw_adapter(backbone, "mixed", modules=BACKBONE, size=0.1).dump(), backbone)
    branch, images = full_branch(backbone), images_for(backbone, 3)
    with torch.inference_mode():
        converted = openvino.convert_model(branch.module, example_input=(images[:2], *branch.base))
    for port, shape in zip(
        converted.inputs, [[-1, *images.shape[1:]], *(base.shape for base in branch.base)], strict=True
    ):
        port.get_node().set_partial_shape(openvino.PartialShape(list(shape)))
    converted.validate_nodes_and_infer_types()
    compiled = openvino.Core().compile_model(
        converted, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    )
    weights = (dict(zip(branch.inputs, branch.base, strict=True)) | branch.merged(adapter.deltas)).values()

    found = torch.from_numpy(compiled([images.numpy(), *(weight.numpy() for weight in weights)])[0])

    assert_close(found, mounted_features(backbone, adapter, images), 1e-4)
