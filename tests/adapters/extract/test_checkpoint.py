"""Which state dict of which file is taken, for the files of timm, Lightning, transformers and other scripts."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from timm.models._hub import save_for_hf
from timm.utils import CheckpointSaver, ModelEmaV3
from torch import nn

from lensmount_adapters.errors import AdapterError, AdapterMalformed, AdapterUnsupported
from lensmount_adapters.extract import checkpoint
from lensmount_adapters.extract.checkpoint import read_checkpoint

STATE = {"fc.weight": torch.ones(3, 4), "fc.bias": torch.zeros(3)}


def write(path: Path, contents: Any) -> Path:
    torch.save(contents, path)
    return path


def test_timm_s_own_checkpoint_is_read_with_its_name(tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    saver = CheckpointSaver(
        network,
        optimizer,
        Namespace(model="test_resnet"),
        model_ema=ModelEmaV3(network, decay=0.5),
        checkpoint_dir=str(tmp_path),
        recovery_dir=str(tmp_path),
    )
    saver.save_checkpoint(0, metric=0.5)

    found = read_checkpoint(tmp_path / "model_best.pth.tar")

    assert (found.arch, found.key) == ("test_resnet", "state_dict")
    assert found.tensors.keys() == network.state_dict().keys()
    assert found.notes == ("took 'state_dict'; 'state_dict_ema' is there too: --key state_dict_ema",)
    assert read_checkpoint(tmp_path / "model_best.pth.tar", "state_dict_ema").key == "state_dict_ema"


def test_a_folder_of_timm_brings_its_labels_and_preprocessing(tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=3)
    save_for_hf(network, tmp_path, model_config={"label_names": ["cat", "dog", "fox"]}, safe_serialization=True)

    found = read_checkpoint(tmp_path)

    assert (found.arch, found.labels) == ("test_resnet", ("cat", "dog", "fox"))
    assert found.preprocessing["mean"] == list(network.pretrained_cfg["mean"])


@pytest.mark.parametrize(
    ("id2label", "labels"), [({"0": "cat", "1": "dog"}, ("cat", "dog")), ({"0": "LABEL_0", "1": "LABEL_1"}, ())]
)
def test_a_folder_of_transformers_brings_its_labels(
    tmp_path: Path, id2label: dict[str, str], labels: tuple[str, ...]
) -> None:
    safetensors.torch.save_file(STATE, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"id2label": id2label, "architectures": ["ViT"]}))

    assert read_checkpoint(tmp_path).labels == labels


@pytest.mark.parametrize(
    ("contents", "key"),
    [
        (STATE, ""),
        ({"state_dict": STATE, "optimizer": {"state": {0: {"exp_avg": torch.ones(1)}}}, "epoch": 3}, "state_dict"),
        ({"model": STATE, "optimizer": {"state": {}, "param_groups": []}, "scaler": {"scale": 2.0}}, "model"),
        ({"state_dict": STATE, "hyper_parameters": {"lr": 0.1}, "callbacks": {"Early": {"best": 1}}}, "state_dict"),
        ({"my_network": STATE, "step": 5}, "my_network"),
    ],
    ids=["plain", "timm", "a script", "Lightning", "another name"],
)
def test_the_weights_are_found_among_the_other_entries(tmp_path: Path, contents: Any, key: str) -> None:
    found = read_checkpoint(write(tmp_path / "file.ckpt", contents))

    assert found.key == key
    assert torch.equal(found.tensors["fc.weight"], STATE["fc.weight"])


def test_a_safetensors_file_is_read(tmp_path: Path) -> None:
    safetensors.torch.save_file(STATE, tmp_path / "a.safetensors")

    assert read_checkpoint(tmp_path / "a.safetensors").tensors.keys() == STATE.keys()


def test_two_state_dicts_without_a_usual_name_are_refused_and_the_advice_works(tmp_path: Path) -> None:
    path = write(tmp_path / "dino.pth", {"teacher": STATE, "student": STATE, "epoch": 1})

    with pytest.raises(AdapterUnsupported, match=r"found teacher, student, expected one state dict\. Fix: .* --key"):
        read_checkpoint(path)

    assert read_checkpoint(path, "teacher").key == "teacher"


REFUSED: dict[str, tuple[Any, str]] = {
    "an unknown key": ({"state_dict": STATE}, "found state_dict, expected the state dict 'other'"),
    "a key for one state dict": (STATE, "it is one state dict. Fix: leave --key out"),
    "a list": ([1, 2], "found a list, expected a state dict"),
    "no weights": ({"epoch": 1, "lr": 0.1}, "found only epoch, lr"),
    "nothing": ({}, "found only nothing"),
    "a sparse tensor": ({"fc.weight": torch.eye(3).to_sparse()}, "fc.weight: found a sparse, quantised or expanded"),
    "an expanded tensor": ({"fc.weight": torch.ones(1).expand(10**6, 10**6)}, "found a sparse, quantised or expanded"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_holds_no_network_is_named(tmp_path: Path, case: str) -> None:
    contents, words = REFUSED[case]

    with pytest.raises(AdapterError, match=words):
        read_checkpoint(write(tmp_path / "file.pth", contents), "other" if "key" in case else None)


def test_folders_without_one_file_of_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterUnsupported, match=r"found none of model\.safetensors"):
        read_checkpoint(tmp_path)
    for name in ("a.safetensors", "b.safetensors"):
        safetensors.torch.save_file(STATE, tmp_path / name)
    with pytest.raises(AdapterUnsupported, match="found weights in several files"):
        read_checkpoint(tmp_path)
    with pytest.raises(AdapterUnsupported, match="found no such file"):
        read_checkpoint(tmp_path / "c.safetensors")


def test_damaged_files_of_safetensors_and_json_are_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file(STATE, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(AdapterMalformed, match=r"config\.json: found text that is not JSON"):
        read_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:-5])
    with pytest.raises(AdapterMalformed, match="damaged safetensors file"):
        read_checkpoint(tmp_path / "model.safetensors")


def test_a_network_s_state_dict_is_told_from_an_optimizer_s(tmp_path: Path) -> None:
    network = nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 4)).sum().backward()
    optimizer.step()

    path = write(tmp_path / "file.pth", {"optimizer_state": optimizer.state_dict(), "net_g": network.state_dict()})

    assert read_checkpoint(path).key == "net_g"


def test_a_file_that_is_too_large_is_refused_and_the_weights_alone_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"fc.weight": torch.ones(2, 4)}
    monkeypatch.setattr(checkpoint, "MAX_BYTES", 1_000)
    both, alone = tmp_path / "both.safetensors", tmp_path / "alone.safetensors"
    safetensors.torch.save_file(weights | {"optimizer": torch.zeros(1_000)}, both)
    with pytest.raises(AdapterError, match=r"expected at most 1000\. Fix: save the weights alone"):
        read_checkpoint(both)
    safetensors.torch.save_file(weights, alone)
    assert read_checkpoint(alone).tensors.keys() == weights.keys()
