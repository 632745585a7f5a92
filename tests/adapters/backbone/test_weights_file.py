"""A weights file is read as other tools save it; what is stripped, chosen or left out is said."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from lensmount_adapters import load_backbone
from lensmount_adapters.errors import BackboneError, WeightsMismatch

NAME = "test_resnet"


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(5)
    made: nn.Module = timm.create_model(NAME)
    return made


@pytest.fixture(scope="module")
def plain(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The fingerprint of the weights in a plain file."""
    path = tmp_path_factory.mktemp("weights") / "plain.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    return load_backbone(NAME, path).fingerprint


def prefixed(model: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.model.", "my.own.wrapper."])
def test_the_prefix_of_a_wrapper_is_stripped_and_said(
    prefix: str, model: nn.Module, plain: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "wrapped.safetensors"
    safetensors.torch.save_file(prefixed(model, prefix), path)

    assert load_backbone(NAME, path).fingerprint == plain
    assert f"stripped the prefix {prefix!r} of its names" in caplog.text
    assert "left out fc.bias, fc.weight: an adapter brings its own head" in caplog.text


def test_real_wrappers_write_names_that_are_read(model: nn.Module, plain: str, tmp_path: Path) -> None:
    wrapped = {
        "compiled": dict(torch.compile(model).state_dict()),  # type: ignore[attr-defined]  # an OptimizedModule
        "averaged": torch.optim.swa_utils.AveragedModel(model).state_dict(),
        "parallel": nn.DataParallel(model).state_dict(),
    }
    for name, state in wrapped.items():
        torch.save(state, tmp_path / name)
        assert load_backbone(NAME, tmp_path / name).fingerprint == plain, name


def test_the_checkpoint_of_timm_s_training_script_is_loaded_and_its_other_weights_by_their_key(
    model: nn.Module, plain: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model_best.pth.tar"
    averaged = {name: tensor + 1 for name, tensor in prefixed(model, "").items()}
    contents: dict[str, Any] = {
        "epoch": 3,
        "arch": NAME,
        "args": argparse.Namespace(lr=0.1),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
        "state_dict": prefixed(model, "module."),
        "state_dict_ema": averaged,
    }
    torch.save(contents, path)

    assert load_backbone(NAME, path).fingerprint == plain
    advice = f"--weights {path}#state_dict_ema"
    assert advice in caplog.text
    other = load_backbone(NAME, advice.removeprefix("--weights "))
    assert torch.equal(other.tensors["conv1.0.weight"], averaged["conv1.0.weight"])


def test_two_networks_in_one_file_are_told_apart_by_the_prefix_in_the_advice(
    model: nn.Module, plain: str, tmp_path: Path
) -> None:
    path = tmp_path / "distilled.safetensors"
    teacher = {name: tensor + 1 for name, tensor in prefixed(model, "teacher.").items()}
    safetensors.torch.save_file(prefixed(model, "student.") | teacher, path)

    with pytest.raises(WeightsMismatch, match=r"each of the prefixes student\., teacher\.") as refused:
        load_backbone(NAME, path)

    advice = str(refused.value).rpartition("--weights ")[2]
    assert load_backbone(NAME, advice).fingerprint == plain


def test_a_missing_tensor_is_named_behind_the_prefix_that_fits_best(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    state = prefixed(model, "module.")
    del state["module.conv1.0.weight"]
    safetensors.torch.save_file(state, path)

    with pytest.raises(WeightsMismatch, match=r"found no tensor 'conv1\.0\.weight' behind the prefix 'module\.'"):
        load_backbone(NAME, path)


def test_other_objects_are_refused_and_no_code_runs(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(WeightsMismatch, match=r"found a file that is not safetensors or a checkpoint of tensors.*Fix"):
        load_backbone(NAME, path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(WeightsMismatch, match="found no state dict, expected one"):
        load_backbone(NAME, path)
    torch.save({"state_dict": {"a": torch.ones(1)}}, path)
    with pytest.raises(WeightsMismatch, match=r"expected them behind 'ema\.', or an entry 'ema'\. Fix: leave #ema out"):
        load_backbone(NAME, f"{path}#ema")
    with pytest.raises(BackboneError, match=r"found no weights file .*none\.pt#ema"):
        load_backbone(NAME, str(tmp_path / "none.pt#ema"))


class Huge:
    def __reduce__(self) -> tuple[type, tuple[int]]:
        return bytearray, (10**12,)


def test_metrics_of_a_training_script_are_read_and_memory_that_a_file_asks_for_is_not_given(
    model: nn.Module, plain: str, tmp_path: Path
) -> None:
    path = tmp_path / "best.pth.tar"
    torch.save({"state_dict": model.state_dict(), "metric": np.float64(0.9)}, path)
    assert load_backbone(NAME, path).fingerprint == plain

    torch.save({"state_dict": model.state_dict(), "metric": Huge()}, path)
    with pytest.raises(WeightsMismatch, match=r"found an object of builtins\.bytearray"):
        load_backbone(NAME, path)
