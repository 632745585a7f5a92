"""Adapters of PEFT on whole networks: imported, mounted, and compared with the logits of PEFT's own model."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import timm
import torch
from safetensors.torch import save_file
from tests.adapters.foreign.peft_networks import (
    CLOSE,
    CONVOLUTIONS,
    LINEAR,
    backbone_of,
    network,
    randomise,
    saved,
    trained,
)

from lensmount_adapters import Backbone, ExactSwapper, Limits, Preprocessing, admit, load_backbone, parse_adapter
from lensmount_adapters.errors import AdapterError, AdapterInvalid, AdapterTooLarge
from lensmount_adapters.foreign.convert import RECORD_BYTES, convert
from lensmount_adapters.foreign.source import Source
from lensmount_adapters.report.card import model_card

FC: dict[str, Any] = {"modules_to_save": ["fc"]}
ALL = [*LINEAR, *CONVOLUTIONS]
CASES: dict[str, Callable[..., peft.PeftConfig]] = {
    "LoRA": partial(peft.LoraConfig, r=3, target_modules=ALL, bias="all", **FC),
    "DoRA": partial(peft.LoraConfig, r=3, target_modules=ALL, use_dora=True, **FC),
    "LoKr": partial(peft.LoKrConfig, r=2, target_modules=ALL, **FC),
    "OFT": partial(peft.OFTConfig, oft_block_size=4, r=0, target_modules=LINEAR, **FC),
    "IA3": partial(peft.IA3Config, target_modules=ALL, feedforward_modules=["down"], **FC),
    "HRA": partial(peft.HRAConfig, r=4, target_modules=ALL, **FC),
    "RoAd": partial(peft.RoadConfig, group_size=4, target_modules=LINEAR, **FC),
    "LN_TUNING": partial(peft.LNTuningConfig, target_modules=["norm", "layer_norm"], **FC),
    "head alone": partial(peft.LoraConfig, r=1, target_modules=["square"], **FC),
}


@pytest.mark.parametrize("method", CASES)
def test_a_mounted_import_gives_the_logits_of_peft_s_live_model(method: str, tmp_path: Path) -> None:
    net, model = trained(CASES[method](), tmp_path)
    backbone = backbone_of(net)
    images = torch.randn(4, 3, 16, 16)

    converted = convert(tmp_path, backbone, name="oaks", labels=["oak", "elm", "ash"])

    adapter = admit(converted.data, backbone)
    ExactSwapper(backbone).mount(adapter)
    found = adapter.logits(backbone.features(images))
    with torch.no_grad():
        expected = model(images)
    assert (found - expected).norm() < CLOSE * expected.norm()
    assert adapter.manifest.labels == ("oak", "elm", "ash")
    assert adapter.manifest.preprocessing == backbone.preprocessing
    assert converted.report.error < 1e-6


NETWORKS: dict[str, tuple[str, str | list[str]]] = {
    "test_resnet": ("fc", r"layer.*\.conv\d|layer.*downsample\.1"),
    "test_vit": ("head", ["qkv", "proj", "fc1", "fc2"]),
    "test_efficientnet": ("classifier", ["conv_pw", "conv_pwl", "conv_exp", "conv_head"]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_lora_and_norms_on_a_network_of_timm_give_the_logits_of_peft(name: str, tmp_path: Path) -> None:
    classifier, targets = NETWORKS[name]
    backbone = load_backbone(name, "random:0")
    torch.manual_seed(1)
    net = timm.create_model(name, num_classes=5)
    net.load_state_dict(dict(backbone.tensors), strict=False)
    norms = [module for module, layer in net.named_modules() if "Norm" in type(layer).__name__][:6]
    config = peft.LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=targets)
    config.modules_to_save = [classifier, *norms]
    model: Any = peft.get_peft_model(net.eval(), config)
    randomise(model, 0.05)
    model.eval().save_pretrained(tmp_path)
    images = torch.randn(2, 3, *backbone.preprocessing.size)

    converted = convert(tmp_path, backbone, name="many")

    adapter = admit(converted.data, backbone)
    ExactSwapper(backbone).mount(adapter)
    found = adapter.logits(backbone.features(images))
    with torch.no_grad():
        expected = model(images)
    assert (found - expected).norm() < CLOSE * expected.norm()
    assert adapter.manifest.labels == ("0", "1", "2", "3", "4")
    assert adapter.manifest.method == "peft-lora"
    assert any("names no classes" in note for note in converted.report.notes)


def test_the_manifest_says_what_was_done_and_what_cannot_be_proved(tmp_path: Path) -> None:
    net, _ = trained(CASES["LN_TUNING"](), tmp_path)

    converted = convert(tmp_path, backbone_of(net), name="norms", labels=["a", "b", "c"])

    manifest = parse_adapter(converted.data).manifest
    record = manifest.training["import"]
    assert "compare the accuracy with the original" in model_card(manifest, None, len(converted.data))
    assert record["tool"] == "PEFT"
    assert "does not name the weights that it was trained on" in record["unproven"]
    assert list(record["ignored"]) == ["base_model.model.norm.ln_tuning_layers.num_batches_tracked"]
    assert record["source_digest"].startswith("sha256:")
    assert json.loads(json.dumps(converted.report.as_json()))["share"] < 1


@pytest.mark.parametrize("kind", ["LoRA", "VeRA", "raw"])
def test_every_tensor_of_the_file_is_in_the_report(kind: str, tmp_path: Path) -> None:
    vera = partial(peft.VeraConfig, r=4, target_modules=LINEAR, **FC)
    config_of: dict[str, Callable[..., peft.PeftConfig]] = {"LoRA": CASES["LoRA"], "raw": CASES["DoRA"], "VeRA": vera}
    net, model = trained(config_of[kind](), tmp_path)
    tensors, config = saved(tmp_path)
    tensors = model.state_dict() if kind == "raw" else tensors

    report = convert(Source("peft", tensors, config), backbone_of(net), name="x").report

    told = {name for each in report.matched for name in each.tensors} | set(report.ignored)
    assert told == set(tensors)
    assert ("equal to the backbone's own" in report.ignored.values()) == (kind == "raw")


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    net, _ = trained(CASES["DoRA"](), tmp_path)
    backbone = backbone_of(net)

    assert convert(tmp_path, backbone, name="x").data == convert(tmp_path, backbone, name="x").data


def test_a_raw_state_dict_with_wrappers_gives_the_same_adapter(tmp_path: Path) -> None:
    """Lightning, DDP and torch.compile save the live model: prefixes, adapter names, and every base weight."""
    net, model = trained(CASES["LoRA"](), tmp_path)
    backbone = backbone_of(net)
    _, config = saved(tmp_path)
    raw = {f"_orig_mod.module.{name}": tensor for name, tensor in model.state_dict().items()}

    plain = convert(tmp_path, backbone, name="x")
    wrapped = convert(Source("peft", raw, config), backbone, name="x")

    first, second = parse_adapter(plain.data).tensors, parse_adapter(wrapped.data).tensors
    assert {name for name in first if not torch.equal(first[name], second[name])} == set()
    assert first.keys() == second.keys()
    assert any("'_orig_mod.module.base_model.model.'" in note for note in wrapped.report.notes)


def test_a_base_that_was_replaced_in_training_is_read_from_a_raw_state_dict(tmp_path: Path) -> None:
    """PiSSA with random starts cannot be replayed from save_pretrained; the raw state dict holds the base."""
    net = network()
    config = peft.LoraConfig(r=2, init_lora_weights="pissa_niter_2", target_modules=LINEAR, **FC)
    model: Any = peft.get_peft_model(copy.deepcopy(net), config)
    randomise(model)
    model.save_pretrained(tmp_path)
    _, options = saved(tmp_path)
    backbone = backbone_of(net)
    images = torch.randn(2, 3, 16, 16)

    adapter = admit(convert(Source("peft", model.state_dict(), options), backbone, name="x").data, backbone)

    ExactSwapper(backbone).mount(adapter)
    with torch.no_grad():
        expected = model.eval()(images)
    assert (adapter.logits(backbone.features(images)) - expected).norm() < CLOSE * expected.norm()


def test_an_adapted_classifier_needs_the_one_that_training_started_from(tmp_path: Path) -> None:
    config = peft.LoraConfig(r=2, target_modules=["fc", "up"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net, model = trained(config, tmp_path)
    backbone = backbone_of(net)
    with pytest.raises(AdapterError, match="LoRA of the classifier itself") as refusal:
        convert(tmp_path, backbone, name="x")
    assert "head.safetensors" in str(refusal.value)

    save_file({"weight": net.fc.weight.data, "bias": net.fc.bias.data}, tmp_path / "head.safetensors")

    adapter = admit(convert(tmp_path, backbone, name="x").data, backbone)
    ExactSwapper(backbone).mount(adapter)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = model(images)
    assert (adapter.logits(backbone.features(images)) - expected).norm() < CLOSE * expected.norm()


def test_changes_that_fit_in_float16_only_are_stored_so_and_said(tmp_path: Path) -> None:
    net, _ = trained(CASES["OFT"](), tmp_path)
    whole = convert(tmp_path, backbone_of(net), name="x")
    limit = RECORD_BYTES + 2200  # the float32 file has 2,600 bytes before the report

    half = convert(tmp_path, backbone_of(net), name="x", limits=Limits(max_file_bytes=limit))

    assert whole.report.stored_as == "float32"
    assert half.report.stored_as == "float16"
    assert 1e-7 < half.report.error < 1e-3


def test_what_is_too_large_even_in_float16_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    net, _ = trained(CASES["OFT"](), tmp_path)

    with pytest.raises(AdapterTooLarge, match="lensmount adapters extract FILE --max-bytes 1000"):
        convert(tmp_path, backbone_of(net), name="x", limits=Limits(max_file_bytes=1000 + RECORD_BYTES))


@pytest.mark.parametrize("labels", [["a", "b"], ["a", "b", "c", "d"]])
def test_another_number_of_labels_than_classes_is_refused(labels: list[str], tmp_path: Path) -> None:
    net, _ = trained(CASES["LN_TUNING"](), tmp_path)

    with pytest.raises(AdapterInvalid, match=f"found {len(labels)} labels, expected 3") as refusal:
        convert(tmp_path, backbone_of(net), name="x", labels=labels)

    assert refusal.value.code == "head_mismatch"


def test_preprocessing_may_be_given(tmp_path: Path) -> None:
    net, _ = trained(CASES["LN_TUNING"](), tmp_path)
    rule = Preprocessing(size=(24, 24), resize="pad", mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))

    data = convert(tmp_path, backbone_of(net), name="x", preprocessing=rule).data

    assert parse_adapter(data).manifest.preprocessing == rule


def test_a_head_alone_is_an_adapter_without_deltas(tmp_path: Path) -> None:
    net, _ = trained(CASES["head alone"](), tmp_path)
    stored, config = saved(tmp_path)
    tensors = {name: tensor for name, tensor in stored.items() if ".fc." in name}

    converted = convert(Source("peft", tensors, config), backbone_of(net), name="x")

    assert parse_adapter(converted.data).manifest.method == "head"
    assert [each.module for each in converted.report.matched] == ["head"]


@pytest.mark.parametrize("case", ["scale", "not finite"])
def test_a_file_whose_deltas_cannot_be_served_is_refused_as_an_upload_is(case: str, tmp_path: Path) -> None:
    net, _ = trained(CASES["LoRA"](), tmp_path)
    tensors, config = saved(tmp_path)
    name = "base_model.model.up.lora_A.weight"
    changed = {**tensors, name: tensors[name] * (torch.nan if case == "not finite" else 1e6)}

    with pytest.raises(AdapterInvalid) as refusal:
        convert(Source("peft", changed, config), backbone_of(net), name="x")

    assert refusal.value.code == ("adapter_not_finite" if case == "not finite" else "adapter_norm_limit")


def test_a_backbone_of_maps_takes_no_classifier() -> None:
    backbone = backbone_of(network())
    backbone.dense = True
    source = Source("peft", {"fc.weight": torch.ones(2, 8)}, {"peft_type": "LORA"})

    with pytest.raises(AdapterError, match="maps of features"):
        convert(source, backbone, name="x")


def test_the_backbone_is_never_written(tmp_path: Path) -> None:
    net, _ = trained(CASES["LoRA"](), tmp_path)
    backbone: Backbone = backbone_of(net)

    convert(tmp_path, backbone, name="x")

    assert backbone.changed() == []
