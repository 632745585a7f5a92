"""Whole files of PEFT: every tensor becomes part of a change, or the file is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from tests.adapters.foreign.peft_networks import LINEAR, backbone_of, network, saved, trained

from lensmount_adapters import load_backbone
from lensmount_adapters.errors import AdapterError, AdapterInvalid, AdapterUnsupported
from lensmount_adapters.foreign.peft import read_peft


def test_all_tensors_that_belong_to_no_module_are_listed_at_once() -> None:
    tensors = {
        "base_model.model.upp.lora_A.weight": torch.ones(2, 12),
        "base_model.model.other.lora_A.weight": torch.ones(2, 12),
        "base_model.model.up.lora_A.weight": torch.ones(2, 12),
    }

    with pytest.raises(AdapterInvalid, match="found 2 tensors that belong to no module") as refusal:
        read_peft(tensors, {"peft_type": "LORA"}, backbone_of(network()))

    assert refusal.value.code == "adapter_unknown_target"
    assert "'base_model.model.other.lora_A.weight'" in str(refusal.value)
    assert "Did you mean 'up'?" in str(refusal.value)


def test_two_adapters_in_one_file_are_refused_with_their_names() -> None:
    tensors = {f"up.lora_{part}.{name}.weight": torch.ones(1) for part in "AB" for name in ("oak", "elm")}

    with pytest.raises(AdapterUnsupported, match=r"found 2 adapters in one file \(elm, oak\)"):
        read_peft(tensors, {"peft_type": "LORA"}, backbone_of(network()))


def test_a_part_that_the_method_does_not_read_is_refused() -> None:
    tensors = {
        "up.lora_A.weight": torch.ones(2, 12),
        "up.lora_B.weight": torch.ones(16, 2),
        "up.lora_C.weight": torch.ones(2, 2),
    }

    with pytest.raises(AdapterUnsupported, match=r"up: found lora_C\.weight, expected only"):
        read_peft(tensors, {"peft_type": "LORA"}, backbone_of(network()))


def test_a_trained_weight_beside_a_change_of_it_is_refused() -> None:
    tensors = {
        "up.lora_A.weight": torch.ones(2, 12),
        "up.lora_B.weight": torch.ones(16, 2),
        "up.weight": torch.ones(16, 12),
    }

    with pytest.raises(AdapterInvalid, match="up: found both a trained weight and a change of it"):
        read_peft(tensors, {"peft_type": "LORA"}, backbone_of(network()))


def test_a_file_for_another_network_of_the_same_names_is_refused_by_shape(tmp_path: Path) -> None:
    trained(peft.LoraConfig(r=2, target_modules=LINEAR, modules_to_save=["fc"]), tmp_path)
    wider = network()
    wider.up = torch.nn.Linear(12, 20)
    wider.down = torch.nn.Linear(20, 8)

    with pytest.raises(AdapterError, match=r"(up|down): found lora_. of shape|found lora_") as refusal:
        read_peft(*saved(tmp_path), backbone_of(wider))

    assert refusal.value.code == "adapter_shape_mismatch"


@pytest.mark.parametrize("name", ["norm.running_mean", "norm.weight"])
def test_statistics_of_another_size_are_refused(name: str) -> None:
    with pytest.raises(AdapterInvalid, match=r"norm.*found .*of shape"):
        read_peft({name: torch.ones(5)}, {"peft_type": "LORA"}, backbone_of(network()))


def test_a_parameter_of_no_module_is_read_as_a_whole_only() -> None:
    backbone = load_backbone("test_vit", "random:0")
    whole = torch.ones(backbone.targets["pos_embed"].shape)

    reading = read_peft({"pos_embed": whole}, {"peft_type": "LORA"}, backbone)

    assert torch.equal(reading.deltas["pos_embed"]["delta"], whole.double() - backbone.tensors["pos_embed"].double())
    with pytest.raises(AdapterUnsupported, match="expected the trained parameter as a whole"):
        read_peft({"pos_embed.lora_A.weight": whole}, {"peft_type": "LORA"}, backbone)


def test_a_layer_and_its_thirds_in_one_file_are_refused() -> None:
    backbone = load_backbone("test_vit", "random:0")
    weight = torch.ones(backbone.targets["blocks.0.attn.qkv.weight"].shape)
    tensors = {"blocks.0.attn.qkv.weight": weight, "vit.layers.0.attention.q_proj.weight": weight.chunk(3)[0]}

    with pytest.raises(AdapterInvalid, match=r"qkv: found changes of the whole layer and of its thirds"):
        read_peft(tensors, {"peft_type": "LORA"}, backbone)


def test_two_tensors_for_one_place_are_refused() -> None:
    """PEFT writes both names if an attention and its out_proj are targets; only one of the two has an effect there."""
    tensors = {f"{prefix}up.lora_{part}.weight": torch.ones(1) for prefix in ("", "model.") for part in "AB"}

    with pytest.raises(AdapterInvalid, match="which another tensor of the file changes as well"):
        read_peft(tensors, {"peft_type": "LORA"}, backbone_of(network()))
