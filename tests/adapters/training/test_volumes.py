"""An adapter of volumes trained: its layers computed slice by slice, its inputs varied, its folders and its task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.backbone.inflate import VolumeBackbone
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.delta.targets import select_targets
from lensmount_adapters.errors import BackboneError, TrainingError
from lensmount_adapters.inputs.rules import IntensityRange, Preprocessing, VolumePreprocessing
from lensmount_adapters.recipe.helix import draw_helix, write_helices
from lensmount_adapters.training.augment_volumes import VolumeAugmentation, augment_volumes
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.evaluate import evaluate
from lensmount_adapters.training.fast_conv3d import SlicewiseConv3d
from lensmount_adapters.training.train_adapter import train


@pytest.mark.parametrize(("depth", "stride", "groups"), [(3, 1, 1), (3, 2, 8), (1, 2, 1), (5, 1, 2)])
def test_a_convolution_slice_by_slice_is_the_convolution_and_so_are_its_gradients(
    depth: int, stride: int, groups: int
) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 6, 9, 10, generator=draw, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(16, 8 // groups, depth, 3, 3, generator=draw, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(16, generator=draw, dtype=torch.float64, requires_grad=True)
    geometry = ((1, stride, stride), (depth // 2, 1, 1), 1, groups)
    plain = F.conv3d(x, weight, bias, *geometry)
    expected = torch.autograd.grad(plain.square().sum(), (x, weight, bias))

    with SlicewiseConv3d():
        found = F.conv3d(x, weight, bias, *geometry)
    gradients = torch.autograd.grad(found.square().sum(), (x, weight, bias))

    torch.testing.assert_close(found, plain)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_other_depths_strides_and_kernels_are_left_to_torch() -> None:
    x, weight = torch.randn(1, 2, 6, 5, 5), torch.randn(2, 2, 3, 3, 3)
    for options in ({"stride": 2, "padding": 1}, {"padding": "valid"}, {"dilation": 2, "padding": 2}, {}):
        with SlicewiseConv3d():
            found = F.conv3d(x, weight, **options)  # type: ignore[arg-type]  # several kinds of options
        assert torch.equal(found, F.conv3d(x, weight, **options))  # type: ignore[arg-type]


def test_flips_turn_each_volume_as_a_whole_and_the_same_state_gives_the_same_volumes() -> None:
    x = torch.rand(16, 1, 3, 4, 4)
    rule = VolumeAugmentation(flip_width=0.5)

    found = augment_volumes(x, rule, torch.Generator().manual_seed(1))

    flipped = [torch.equal(one, before.flip(-1)) for one, before in zip(found, x, strict=True)]
    kept = [torch.equal(one, before) for one, before in zip(found, x, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 0 < sum(flipped) < 16
    assert torch.equal(found, augment_volumes(x, rule, torch.Generator().manual_seed(1)))
    every = VolumeAugmentation(flip_depth=1, flip_height=1, jitter=0.2, quarter_turns=True)
    changed = augment_volumes(x, every, torch.Generator().manual_seed(1))
    assert changed.shape == x.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    with pytest.raises(TrainingError, match="square"):
        augment_volumes(x[..., :3], VolumeAugmentation(quarter_turns=True), torch.Generator())


def test_a_name_with_3d_is_the_inflated_backbone_with_the_same_weights() -> None:
    flat, found = load_backbone("resnet10t", "random:0"), load_backbone("resnet10t-3d", "random:0")

    assert isinstance(found, VolumeBackbone)
    assert found.name == "resnet10t-3d"
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(found.features(x[:, :, None]), flat.features(x), rtol=1e-4, atol=1e-5)
    assert load_backbone("resnet10t-3d5", "random:0").tensors["layer1.0.conv1.weight"].shape[2:] == (5, 3, 3)
    for name, message in (("resnet10t-3d2", "odd"), ("no_such-3d", "no timm model"), ("resnet10t-3d3-3d3", "volumes")):
        with pytest.raises(BackboneError, match=message):
            load_backbone(name, "random:0")


def test_the_preset_of_a_backbone_of_volumes_is_the_flat_ones_and_its_kernels_that_look_along_the_depth() -> None:
    flat, found = (load_backbone(f"tf_efficientnet_lite0{end}", "random:0") for end in ("", "-3d3"))

    def chosen(backbone: Backbone) -> set[str]:
        return {t.module for t in select_targets(backbone.name, backbone.targets, "lora").low_rank}

    assert chosen(flat) < chosen(found)
    assert {name.rpartition(".")[2] for name in chosen(found) - chosen(flat)} == {"conv_dw"}


def test_a_manifest_of_before_volumes_reads_and_writes_as_it_did() -> None:
    flat = Preprocessing(size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    ref = {"name": "resnet10t", "fingerprint": f"sha256:{'0' * 64}"}
    fields = {"name": "x", "method": "head", "backbone": ref, "labels": ["a", "b"], "head": {"kind": "linear"}}

    old = Manifest.model_validate(fields | {"preprocessing": flat.model_dump(mode="json")})
    volume = VolumePreprocessing(
        depth=4, size=(32, 32), window=IntensityRange(lower=0, upper=9), mean=flat.mean, std=flat.std
    )
    new = Manifest.model_validate(fields | {"preprocessing": volume.model_dump(mode="json")})

    assert old.preprocessing == flat
    assert "kind" not in old.preprocessing.model_dump()
    assert Manifest.parse(new.dump()).preprocessing == volume
    with pytest.raises(ValueError, match="lower below upper"):
        IntensityRange(lower=1, upper=1)


def test_slices_of_both_hands_are_alike_and_backwards_one_is_the_other() -> None:
    left, right = (draw_helix(hand, 5) for hand in (False, True))

    assert left.shape == (16, 64, 64)
    assert left.dtype == np.uint8
    assert np.array_equal(left[0], right[0])  # the same places and noise before anything has moved
    assert not np.array_equal(left[1], right[1])
    assert np.array_equal(left, draw_helix(False, 5))


def test_an_adapter_of_volumes_is_trained_from_a_folder_and_evaluates_to_the_recorded_figures(tmp_path: Path) -> None:
    """Too short to learn much; the figures of the file are found again from the file and the folder."""
    write_helices(tmp_path / "helix", 12, (6, 24, 24))
    (tmp_path / "helix" / "left" / "note.png").write_bytes(b"not a volume, and passed over")
    config = TrainingConfig(
        tmp_path / "helix", "hands", tmp_path / "hands.safetensors", "resnet10t-3d", "random:0",
        init_b_std=0.1, targets=r"^layer4\..*conv1$", rank=2, depth=6, size=32, window=(0, 255), epochs=2, batch_size=8,
        precision="fp32", device="cpu", cache_trunk="on", views=2, test_fraction=0.3,
    )  # fmt: skip

    result = train(config)

    rule = result.manifest.preprocessing
    assert isinstance(rule, VolumePreprocessing)
    assert (rule.depth, rule.size, rule.window) == (6, (32, 32), IntensityRange(lower=0, upper=255))
    assert result.record["hyper_parameters"]["window"] == [0, 255]
    assert result.test is not None
    again = evaluate(config.out, config.data)
    assert again.metrics.to_json() == result.test.to_json()
