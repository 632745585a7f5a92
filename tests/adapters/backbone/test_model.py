"""The resident backbone: frozen, known by its fingerprint, guarded against any changed bit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import timm
import torch

from lensmount_adapters import Backbone, ExactSwapper, load_backbone
from lensmount_adapters.backbone.fingerprint import fingerprint_of, tensor_digest
from lensmount_adapters.backbone.target import Layer
from lensmount_adapters.errors import BackboneError, IntegrityError

NAME = "test_efficientnet"


@pytest.fixture
def backbone(device: str) -> Backbone:
    return load_backbone(NAME, "random:0", device)


def flip_a_bit(tensor: torch.Tensor) -> None:
    tensor.view(-1)[:1].view(torch.uint8)[0] ^= 1


def test_the_fingerprint_is_stable_and_its_own_seed_s(backbone: Backbone) -> None:
    assert load_backbone(NAME, "random:0").fingerprint == backbone.fingerprint
    assert load_backbone(NAME, "random:1").fingerprint != backbone.fingerprint


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_the_fingerprint_does_not_depend_on_the_serving_dtype(backbone: Backbone, dtype: torch.dtype) -> None:
    served = load_backbone(NAME, "random:0", dtype=dtype)
    assert served.fingerprint == backbone.fingerprint
    assert {tensor.dtype for tensor in served.tensors.values()} == {dtype}
    assert served.features(torch.zeros(1, 3, 160, 160)).dtype is torch.float32


def test_the_fingerprint_changes_with_one_bit_of_any_tensor() -> None:
    model = timm.create_model(NAME, num_classes=0)
    before = fingerprint_of(model)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            flip_a_bit(tensor)
            assert fingerprint_of(model) != before
            flip_a_bit(tensor)
    assert fingerprint_of(model) == before


def test_the_fingerprint_is_what_its_docstring_says() -> None:
    model = timm.create_model(NAME, num_classes=0)
    lines = [
        f"{name} {tensor.dtype} {list(tensor.shape)} {hashlib.sha256(tensor.numpy().tobytes()).hexdigest()}\n"
        for name, tensor in sorted(model.state_dict().items())
        if tensor.is_floating_point()
    ]
    assert fingerprint_of(model) == f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def test_a_tensor_s_digest_is_that_of_its_bytes() -> None:
    tensor = torch.arange(6, dtype=torch.float32).view(2, 3)
    assert tensor_digest(tensor) == hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
    assert tensor_digest(tensor.T) == hashlib.sha256(tensor.T.contiguous().numpy().tobytes()).hexdigest()


def test_nothing_of_it_requires_grad_or_trains(backbone: Backbone) -> None:
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())
    assert not any(module.training for module in backbone.module.modules())
    features = backbone.features(torch.zeros(2, 3, 160, 160))
    assert features.shape == (2, backbone.feature_dim)
    assert not features.requires_grad


def test_features_leave_the_batch_norm_statistics_alone(backbone: Backbone) -> None:
    backbone.features(torch.randn(4, 3, 160, 160))
    assert backbone.changed() == []


def test_the_tensors_are_the_live_ones(backbone: Backbone) -> None:
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


def test_a_flipped_bit_in_a_pristine_clone_is_found(backbone: Backbone) -> None:
    backbone.base(["conv_head.weight"])
    flip_a_bit(backbone.base(["conv_head.weight"])["conv_head.weight"])
    assert backbone.changed() == ["conv_head.weight (pristine clone)"]


def test_a_pristine_clone_is_never_the_live_tensor(backbone: Backbone) -> None:
    backbone.base(["conv_head.weight"])
    live, pristine = backbone.tensors["conv_head.weight"], backbone.base(["conv_head.weight"])["conv_head.weight"]
    assert live.data_ptr() != pristine.data_ptr()
    live.zero_()
    assert torch.count_nonzero(pristine) > 0


def test_asking_twice_keeps_the_first_clone(backbone: Backbone) -> None:
    backbone.base(["conv_head.weight"])
    pristine = backbone.base(["conv_head.weight"])["conv_head.weight"]
    backbone.tensors["conv_head.weight"].zero_()
    backbone.base(["conv_head.weight", "conv_stem.weight"])
    assert backbone.base(["conv_head.weight"])["conv_head.weight"] is pristine


def test_a_tensor_that_changed_is_not_cloned(backbone: Backbone) -> None:
    flip_a_bit(backbone.tensors["conv_head.weight"])
    with pytest.raises(IntegrityError, match=r"conv_head\.weight: the resident weights changed") as caught:
        backbone.base(["conv_head.weight"])
    assert caught.value.code == "integrity_violated"


def test_a_backbone_that_nobody_writes_keeps_no_clones_and_takes_no_swapper(backbone: Backbone) -> None:
    backbone.keep_nothing()
    assert backbone.base(["conv_head.weight"])["conv_head.weight"] is backbone.tensors["conv_head.weight"]
    assert backbone.bytes_resident()[1] == 0
    with pytest.raises(IntegrityError, match="keep_clones"):
        ExactSwapper(backbone)
    flip_a_bit(backbone.tensors["conv_stem.weight"])
    with pytest.raises(IntegrityError, match=r"conv_stem\.weight: the resident weights changed"):
        backbone.base(["conv_stem.weight"])


def test_a_twin_shares_nothing(backbone: Backbone) -> None:
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


@pytest.mark.parametrize(
    "name", ["resnet3", "no-such-model", "", "../etc/passwd", "resnet34[", "*", "resnet10t.no_such_tag"]
)
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(BackboneError, match="found no timm model named") as caught:
        load_backbone(name, "random:0")
    assert caught.value.code == "backbone_unavailable"


def test_a_close_name_is_proposed() -> None:
    with pytest.raises(BackboneError, match=r"expected one such as .*resnet"):
        load_backbone("resnet3", "random:0")


def test_preprocessing_is_the_model_s_own() -> None:
    """timm's own transform settings for the same model."""
    for name in (NAME, "test_vit", "resnet10t"):
        wanted = timm.data.resolve_data_config({}, model=timm.create_model(name))
        rule = load_backbone(name, "random:0").preprocessing
        assert (3, *rule.size) == wanted["input_size"]
        assert (rule.mean, rule.std) == (wanted["mean"], wanted["std"])
        assert (rule.interpolation, rule.crop_fraction) == (wanted["interpolation"], wanted["crop_pct"])


@pytest.mark.parametrize(("device", "found"), [("cuda:99", "CUDA devices, expected cuda:99"), ("gpu", "device 'gpu'")])
def test_a_device_that_is_not_there_is_one_line_with_a_fix(device: str, found: str) -> None:
    with pytest.raises(BackboneError, match=rf"{found}.*Fix: "):
        load_backbone("test_efficientnet", "random:0", device)
