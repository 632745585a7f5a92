"""A volume backbone computes on each slice what the 2-D backbone computes on an image, until an adapter is mounted."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import safetensors.torch
import torch
from timm.layers import BatchNormAct2d, SelectAdaptivePool2d
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from lensmount_adapters import Backbone, ExactSwapper, Layer, Preprocessing, admit, load_backbone
from lensmount_adapters.backbone.inflate import VolumeBackbone, inflate
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.graph.segments import Segments

NETWORKS = {"resnet34": None, "vgg11": 3, "tf_efficientnet_lite0": None}  # name: depth of the kernels
RULE = Preprocessing(size=(20, 20), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

Pair = tuple[Backbone, VolumeBackbone]


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Pair:
    flat = load_backbone(request.param, "random:0")
    return flat, inflate(flat, NETWORKS[request.param])


@pytest.fixture(scope="module")
def small() -> Pair:
    flat = load_backbone("mobilenetv2_035", "random:0")
    return flat, inflate(flat)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def of_images(flat: Backbone, volumes: Tensor) -> Tensor:
    """The 2-D features [N, D, F] of each slice, one slice at a time."""
    return torch.stack([flat.features(volumes[:, :, d]) for d in range(volumes.shape[2])], dim=1)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Equal to 1e-6 of the largest value."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_each_slice_has_the_features_of_the_image(network: Pair) -> None:
    flat, volumes = network
    x = noise(2, 3, 4, 45, 38)  # odd sides, so that "same" padding is uneven
    assert_close(volumes.slice_features(x), of_images(flat, x))


def test_a_volume_has_the_mean_of_its_slices_features(network: Pair) -> None:
    flat, volumes = network
    x = noise(2, 3, 5, 40, 40, seed=1)
    assert volumes.feature_dim == flat.feature_dim
    assert_close(volumes.features(x), of_images(flat, x).mean(1))


def test_a_volume_of_one_slice_is_the_image(network: Pair) -> None:
    flat, volumes = network
    x = noise(2, 3, 40, 40, seed=2)
    assert_close(volumes.features(x.unsqueeze(2)), flat.features(x))


def test_the_kernels_are_zero_outside_the_centre_and_nothing_else_changed(network: Pair) -> None:
    flat, volumes = network
    assert list(volumes.tensors) == list(flat.tensors)
    for name, tensor in flat.tensors.items():
        inflated = volumes.tensors[name]
        if tensor.ndim == 4:
            slices = inflated.shape[2]
            assert slices == (1 if max(tensor.shape[2:]) == 1 else NETWORKS[flat.name] or max(tensor.shape[2:]))
            assert torch.equal(inflated[:, :, slices // 2], tensor)
            assert torch.count_nonzero(inflated) == torch.count_nonzero(tensor)
        else:
            assert torch.equal(inflated, tensor)
        assert inflated.data_ptr() != tensor.data_ptr()


def test_the_convolutions_are_targets_of_three_dimensions_and_the_fingerprint_is_new(network: Pair) -> None:
    flat, volumes = network
    assert list(volumes.targets) == list(flat.targets)
    for name, target in volumes.targets.items():
        assert (target.layer, target.groups) == (flat.targets[name].layer, flat.targets[name].groups)
        assert len(target.shape) == (5 if target.layer is Layer.CONV and name.endswith(".weight") else 1)
    assert volumes.fingerprint != flat.fingerprint
    assert volumes.name.startswith(f"{flat.name}-3d")
    assert not any(parameter.requires_grad for parameter in volumes.module.parameters())


def test_it_is_cut_into_trunk_and_branch_like_the_flat_one(network: Pair) -> None:
    """It has one cut fewer, because pooling and flattening are one layer."""
    flat, volumes = network
    cuts = Segments(volumes.module).cuts
    assert len(cuts) == len(Segments(flat.module).cuts) - 1
    halves = Segments(volumes.module).halves_at(cuts[len(cuts) // 2])
    x = noise(1, 3, 2, 40, 40)
    assert halves.trunk is not None
    with torch.inference_mode():
        assert torch.equal(halves.branch(halves.trunk(x)), volumes.module(x))


# Layers one by one

LAYERS: dict[str, list[nn.Module]] = {
    "strides and padding": [nn.Conv2d(3, 8, (3, 5), stride=(2, 1), padding=(1, 0))],
    "dilation": [nn.Conv2d(3, 8, 3, padding=2, dilation=2)],
    "groups": [nn.Conv2d(3, 6, 5, padding=2, groups=3, bias=False)],
    "padding same": [nn.Conv2d(3, 8, 3, padding="same", dilation=2)],
    "padding valid": [nn.Conv2d(3, 8, 3, padding="valid")],
    "TensorFlow's padding": [Conv2dSame(3, 8, 3, stride=2), Conv2dSame(8, 8, 5, stride=2, groups=8)],
    "transposed": [nn.ConvTranspose2d(3, 8, 3, stride=2, padding=1, output_padding=1)],
    "batch norm": [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout2d()],
    "batch norm with activation": [nn.Conv2d(3, 8, 3), BatchNormAct2d(8, act_layer=nn.SiLU)],
    "group norm": [nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.GELU()],
    "max pooling": [
        nn.BatchNorm2d(3),
        nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        nn.MaxPool2d((1, 2), dilation=2),
    ],
    "average pooling": [
        nn.BatchNorm2d(3),
        nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
        nn.AvgPool2d(2, ceil_mode=True),
    ],
    "enlarging": [nn.BatchNorm2d(3), nn.Upsample(scale_factor=2, mode="bilinear")],
    "adaptive pooling": [nn.BatchNorm2d(3), nn.AdaptiveMaxPool2d((9, None)), nn.AdaptiveAvgPool2d(4)],
}
HEADS: dict[str, list[nn.Module]] = {
    "flatten": [nn.AdaptiveAvgPool2d(2), nn.Flatten()],
    "average": [SelectAdaptivePool2d(pool_type="avg", flatten=True)],
    "average and maximum": [SelectAdaptivePool2d(pool_type="catavgmax", flatten=True)],
    "mean": [SelectAdaptivePool2d(pool_type="fastavg", flatten=True)],
    "linear": [nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(8, 5)],
}


def by_hand(layers: list[nn.Module]) -> Backbone:
    """A small backbone of these layers, with statistics that are not 0 and 1."""
    torch.manual_seed(0)
    module = nn.Sequential(*copy.deepcopy(layers))
    module(torch.randn(8, 3, 20, 20))
    module.pretrained_cfg = {}  # type: ignore[assignment]  # timm's models have one
    return Backbone("by_hand", module, RULE, torch.float32)


@pytest.mark.parametrize("layers", LAYERS)
def test_each_layer_works_slice_by_slice(layers: str) -> None:
    flat = by_hand([*LAYERS[layers], *HEADS["flatten"]])
    x = noise(2, 3, 3, 20, 20)
    assert_close(inflate(flat, 3).slice_features(x), of_images(flat, x))


@pytest.mark.parametrize("head", HEADS)
def test_each_head_averages_over_depth(head: str) -> None:
    flat = by_hand([nn.Conv2d(3, 8, 3), nn.ReLU(), *HEADS[head]])
    x = noise(2, 3, 3, 20, 20)
    assert_close(inflate(flat).features(x), of_images(flat, x).mean(1))


# Adapters on a volume backbone


@pytest.mark.parametrize("method", ["lora", "lora-tucker", "lora-shared", "norm", "mixed"])
def test_an_adapter_is_mounted_as_in_float64_and_undone_bit_for_bit(
    method: str, small: Pair, draw_adapter: Any, merged64: Any, digest_of_state: Callable[[Backbone], str]
) -> None:
    volumes = small[1]
    parts, other = draw_adapter(volumes, method), draw_adapter(volumes, "lora", seed=1)
    before, swapper = digest_of_state(volumes), ExactSwapper(volumes)
    x = noise(1, 3, 3, 40, 40)
    features = volumes.features(x)
    swapper.mount(admit(other.dump(), volumes))
    adapter = admit(parts.dump(), volumes)
    swapper.mount(adapter)
    assert adapter.deltas
    for delta in adapter.deltas:
        wanted = merged64(volumes, parts, delta.target.name)
        found = volumes.tensors[delta.target.name].double()
        assert (found - wanted).abs().max() <= 1e-6 * wanted.abs().max()
    assert (volumes.features(x) - features).abs().max() > 1e-3 * features.abs().max()
    swapper.unmount()
    assert digest_of_state(volumes) == before
    assert volumes.changed() == []
    assert torch.equal(volumes.features(x), features)


def test_only_an_adapter_makes_a_slice_depend_on_the_next(small: Pair, draw_adapter: Any) -> None:
    volumes, swapper = small[1], ExactSwapper(small[1])
    x = noise(1, 3, 4, 40, 40)
    changed = x.clone()
    changed[:, :, 3] += 1
    assert torch.equal(volumes.slice_features(changed)[:, :3], volumes.slice_features(x)[:, :3])
    swapper.mount(admit(draw_adapter(volumes).dump(), volumes))
    before, after = (volumes.slice_features(images)[:, 2] for images in (x, changed))
    assert (after - before).abs().max() > 1e-3 * before.abs().max()
    swapper.unmount()


@pytest.mark.parametrize("use_tucker", [False, True])
def test_lycoris_gives_the_same_output_on_an_inflated_convolution(use_tucker: bool) -> None:
    from lycoris.modules.locon import LoConModule

    flat = by_hand([nn.Conv2d(3, 8, 3, stride=2, padding=1), *HEADS["average"]])
    volumes = inflate(flat)
    layer: Any = volumes.module.get_submodule("0")
    peer = LoConModule("layer", layer, lora_dim=2, alpha=4.0, use_tucker=use_tucker)
    with torch.no_grad():
        peer.lora_up.weight.normal_()
    part = {"lora_down": "lora_A", "lora_mid": "lora_mid", "lora_up": "lora_B"}
    tensors = {
        f"0.{part[name.removesuffix('.weight')]}.weight": tensor
        for name, tensor in peer.state_dict().items()
        if name != "alpha"
    }
    assert len(tensors) == 2 + use_tucker
    x = noise(2, 3, 5, 20, 20)
    with torch.no_grad():
        wanted = F.conv3d(x, layer.weight + peer.get_diff_weight()[0], layer.bias, layer.stride, layer.padding)
    ExactSwapper(volumes).mount(admit(file_of(volumes, tensors, rank=2, alpha=4.0), volumes))
    found = layer(x)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def file_of(backbone: Backbone, tensors: dict[str, Tensor], rank: int, alpha: float) -> bytes:
    """An adapter file of one module, "0", with a head."""
    manifest = {
        "name": "peer",
        "method": "lora",
        "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint},
        "preprocessing": backbone.preprocessing.model_dump(mode="json"),
        "labels": ["no", "yes"],
        "head": {"kind": "linear"},
        "modules": {"0": {"rank": rank, "alpha": alpha}},
    }
    head = {"head.weight": torch.ones(2, backbone.feature_dim), "head.bias": torch.zeros(2)}
    saved: bytes = safetensors.torch.save(tensors | head, metadata={"lensmount": json.dumps(manifest)})
    return saved


def test_the_dtype_is_that_of_serving_and_the_fingerprint_that_of_float32(small: Pair) -> None:
    flat, volumes = small
    served = inflate(flat, dtype=torch.bfloat16)
    assert served.fingerprint == volumes.fingerprint
    assert {tensor.dtype for tensor in served.tensors.values()} == {torch.bfloat16}
    assert served.features(noise(1, 3, 2, 40, 40)).dtype is torch.float32


def test_the_flat_backbone_does_not_change(digest_of_state: Callable[[Backbone], str]) -> None:
    flat = load_backbone("mobilenetv2_035", "random:3")
    before, x = digest_of_state(flat), noise(1, 3, 40, 40)
    features = flat.features(x)
    volumes = inflate(flat)
    for tensor in volumes.tensors.values():
        tensor.zero_()
    assert digest_of_state(flat) == before
    assert torch.equal(flat.features(x), features)


# Refusals


@pytest.mark.parametrize("depth", [0, -1, 2, 4])
def test_an_even_depth_is_refused(depth: int, small: Pair) -> None:
    with pytest.raises(BackboneError, match=rf"found depth {depth}, expected an odd number"):
        inflate(small[0], depth)


def test_an_even_kernel_is_refused_unless_its_depth_is_given() -> None:
    flat = by_hand([nn.Conv2d(3, 8, (2, 4), stride=2), *HEADS["average"]])
    with pytest.raises(BackboneError, match=r"0: found a kernel of 2 x 4, expected odd sides.*Fix"):
        inflate(flat)
    x = noise(2, 3, 3, 20, 20)
    assert_close(inflate(flat, 3).slice_features(x), of_images(flat, x))


def test_padding_with_anything_but_zeros_is_refused() -> None:
    flat = by_hand([nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), *HEADS["average"]])
    with pytest.raises(BackboneError, match="found padding mode 'reflect', expected zeros"):
        inflate(flat)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test_efficientnet", "does not treat slices like images"),  # squeeze and excitation
        ("mobilenetv3_small_050", "does not treat slices like images"),  # convolutions after the pooling
        ("test_vit", "which has no counterpart for volumes"),
        ("convnext_atto", "found a LayerNorm2d, which has no counterpart"),
    ],
)
def test_a_network_that_mixes_all_positions_is_refused_with_the_fix(name: str, reason: str) -> None:
    with pytest.raises(BackboneError, match=f"{reason}.*Fix: use a network of plain convolutions"):
        inflate(load_backbone(name, "random:0"), 3)


def test_a_backbone_with_an_adapter_on_it_is_refused(draw_adapter: Any) -> None:
    flat = load_backbone("mobilenetv2_035", "random:0")
    ExactSwapper(flat).mount(admit(draw_adapter(flat).dump(), flat))
    with pytest.raises(BackboneError, match=r"found an adapter on it, expected the base\. Fix: unmount it first"):
        inflate(flat)


def test_a_volume_backbone_is_not_inflated_again(small: Pair) -> None:
    with pytest.raises(BackboneError, match="found a volume backbone, expected one for images"):
        inflate(small[1])


def test_rounded_weights_are_refused() -> None:
    with pytest.raises(BackboneError, match=r"found weights in torch\.bfloat16, expected float32"):
        inflate(load_backbone("mobilenetv2_035", "random:0", dtype=torch.bfloat16))
