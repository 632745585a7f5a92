"""Adapters for volumes: their backbones, manifests, sample data and training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.backbone.inflate import VolumeBackbone
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.delta.targets import select_targets
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.inputs.rules import IntensityRange, Preprocessing, VolumePreprocessing
from lensmount_adapters.recipe.helix import write_helices
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.evaluate import evaluate
from lensmount_adapters.training.train_adapter import train


def test_a_name_that_ends_in_3d_is_the_inflated_backbone_with_the_same_weights() -> None:
    flat, found = load_backbone("resnet10t", "random:0"), load_backbone("resnet10t-3d", "random:0")

    assert isinstance(found, VolumeBackbone)
    assert found.name == "resnet10t-3d"
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(found.features(x[:, :, None]), flat.features(x), rtol=1e-4, atol=1e-5)
    assert load_backbone("resnet10t-3d5", "random:0").tensors["layer1.0.conv1.weight"].shape[2:] == (5, 3, 3)
    for name, message in (
        ("resnet10t-3d2", "odd"),
        ("no_such-3d", "no timm model"),
        ("resnet10t-3d3-3d3", "volume backbone"),
    ):
        with pytest.raises(BackboneError, match=message):
            load_backbone(name, "random:0")


def test_the_preset_for_volumes_is_the_2d_preset_and_the_kernels_along_the_depth() -> None:
    flat, found = (load_backbone(f"tf_efficientnet_lite0{end}", "random:0") for end in ("", "-3d3"))

    def chosen(backbone: Backbone) -> set[str]:
        return {t.module for t in select_targets(backbone.name, backbone.targets, "lora").low_rank}

    assert chosen(flat) < chosen(found)
    assert {name.rpartition(".")[2] for name in chosen(found) - chosen(flat)} == {"conv_dw"}


def test_a_manifest_from_before_volumes_is_read_and_written_as_before() -> None:
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


def test_an_adapter_of_volumes_is_trained_from_a_folder_and_evaluates_to_the_recorded_figures(tmp_path: Path) -> None:
    """The run is too short to learn much. Evaluating the file on the folder gives the recorded figures again."""
    write_helices(tmp_path / "helix", 12, (6, 24, 24))
    (tmp_path / "helix" / "left" / "note.png").write_bytes(b"not a volume, and skipped")
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
