"""The resident backbone: frozen, identified by its fingerprint, and checked for any changed bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lensmount_adapters import Backbone, load_backbone
from lensmount_adapters.backbone.fingerprint import BackboneRef
from lensmount_adapters.backbone.target import Layer

NAME = "test_efficientnet"


@pytest.fixture
def backbone(device: str) -> Backbone:
    return load_backbone(NAME, "random:0", device)


def flip_a_bit(tensor: torch.Tensor) -> None:
    tensor.view(-1)[:1].view(torch.uint8)[0] ^= 1


def test_the_fingerprint_is_stable_and_differs_between_seeds(backbone: Backbone) -> None:
    assert load_backbone(NAME, "random:0").fingerprint == backbone.fingerprint
    assert load_backbone(NAME, "random:1").fingerprint != backbone.fingerprint


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_the_fingerprint_does_not_depend_on_the_serving_dtype(backbone: Backbone, dtype: torch.dtype) -> None:
    served = load_backbone(NAME, "random:0", dtype=dtype)
    assert served.fingerprint == backbone.fingerprint
    assert {tensor.dtype for tensor in served.tensors.values()} == {dtype}
    assert served.features(torch.zeros(1, 3, 160, 160)).dtype is torch.float32


def test_no_parameter_requires_grad_and_no_module_trains(backbone: Backbone) -> None:
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())
    assert not any(module.training for module in backbone.module.modules())
    features = backbone.features(torch.zeros(2, 3, 160, 160))
    assert features.shape == (2, backbone.feature_dim)
    assert not features.requires_grad


def test_features_do_not_change_the_batch_norm_statistics(backbone: Backbone) -> None:
    backbone.features(torch.randn(4, 3, 160, 160))
    assert backbone.changed() == []


def test_the_tensors_are_the_live_weights(backbone: Backbone) -> None:
    images = torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    before = backbone.features(images)
    backbone.tensors["conv_stem.weight"].mul_(2)
    assert (backbone.features(images) - before).abs().max() > 1e-3 * before.abs().max()


def test_targets_are_every_parameter_of_the_layers_it_names(every_layer: Callable[..., Backbone]) -> None:
    backbone = every_layer()
    assert set(backbone.targets) == set(backbone.tensors)
    kinds = {target.module: (target.layer, target.groups) for target in backbone.targets.values()}
    assert kinds["depthwise"] == (Layer.CONV, 8)
    assert kinds["transposed3d"] == (Layer.CONV_TRANSPOSED, 2)
    assert kinds["group_norm"] == kinds["layer_norm"] == (Layer.NORM, 1)
    assert kinds["batch_norm1d"] == (Layer.BATCH_NORM, 1)
    assert kinds["linear"] == (Layer.LINEAR, 1)
    assert backbone.targets["transposed2d.weight"].out_features == 8


def test_a_flipped_bit_in_a_live_tensor_is_found(backbone: Backbone) -> None:
    assert backbone.changed() == []
    flip_a_bit(backbone.tensors["conv_head.weight"])
    assert backbone.changed() == ["conv_head.weight"]
    flip_a_bit(backbone.tensors["conv_head.weight"])
    assert backbone.changed() == []


def test_a_copy_shares_nothing(backbone: Backbone) -> None:
    twin = backbone.twin()
    assert twin.fingerprint == backbone.fingerprint
    twin.tensors["conv_head.weight"].zero_()
    assert backbone.changed() == []
    assert twin.changed() == ["conv_head.weight"]


def test_resident_bytes_are_counted(backbone: Backbone) -> None:
    weights = sum(t.numel() * 4 for t in backbone.module.state_dict().values() if t.is_floating_point())
    assert backbone.bytes_resident() == (weights, 0)
    backbone.base(["conv_head.weight"])
    assert backbone.bytes_resident() == (weights, backbone.tensors["conv_head.weight"].nbytes)


def test_the_originals_are_copied_whatever_is_mounted_and_no_clone_is_kept(small_backbone: Backbone) -> None:
    backbone = small_backbone.twin()
    before = {name: tensor.clone() for name, tensor in backbone.tensors.items()}
    written = "blocks.1.0.conv_exp.weight"
    backbone.base([written])
    backbone.tensors[written].zero_()

    originals = backbone.originals()

    assert all(torch.equal(originals[name], tensor) for name, tensor in before.items())
    assert list(backbone.pristine.kept()) == [written]


def test_the_fingerprint_decides_what_fits_whatever_the_tag_of_the_weights() -> None:
    backbone = load_backbone("test_resnet", "random:0")
    other = load_backbone("test_resnet", "random:1")

    assert backbone.fits(BackboneRef(name="test_resnet.r160_in1k", fingerprint=backbone.fingerprint))
    assert backbone.fits(BackboneRef(name="our-own-name", fingerprint=backbone.fingerprint))
    assert not backbone.fits(other.ref)


def test_another_architecture_with_the_same_tensors_does_not_fit() -> None:
    """QuickGELU and GELU have no tensors, so both networks have one fingerprint and compute different features."""
    backbone = load_backbone("vit_tiny_patch16_224", "random:0")

    assert not backbone.fits(BackboneRef(name="vit_small_patch16_224", fingerprint=backbone.fingerprint))
