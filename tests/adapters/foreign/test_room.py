"""The limit on the size of changes, for files of PEFT and of LyCORIS alike."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from tests.adapters.foreign.peft_networks import LINEAR, backbone_of, network, saved, trained

from lensmount_adapters.errors import AdapterTooLarge
from lensmount_adapters.foreign.lycoris import read_lycoris
from lensmount_adapters.foreign.peft import read_peft
from lensmount_adapters.foreign.room import Room

SIZES = {"up": 12 * 16, "down": 16 * 8, "square": 8 * 8}  # 768 bytes in float16


def test_the_deltas_of_all_modules_count_together() -> None:
    room = Room(100)
    room.take({"weight.delta": torch.ones(5, 9), "bias.delta": torch.ones(5)})

    with pytest.raises(AdapterTooLarge, match=r"found changes of more than 100 bytes.*Fix: .*extract FILE --max-bytes"):
        room.take({"bias.delta": torch.ones(1)})


def test_without_a_limit_there_is_room_for_everything() -> None:
    Room().take({"weight.delta": torch.ones(1000, 1000)})


def test_changes_of_peft_that_are_too_large_are_refused_before_all_are_computed(tmp_path: Path) -> None:
    net, _ = trained(peft.OFTConfig(oft_block_size=4, r=0, target_modules=LINEAR, modules_to_save=["fc"]), tmp_path)
    tensors, config = saved(tmp_path)

    with pytest.raises(AdapterTooLarge, match="found changes of more than 500 bytes"):
        read_peft(tensors, config, backbone_of(net), max_bytes=500)
    assert read_peft(tensors, config, backbone_of(net), max_bytes=768).deltas.keys() == set(LINEAR)


def test_changes_of_lycoris_that_are_too_large_are_refused_before_all_are_computed() -> None:
    """The last module is one that cannot be read; its refusal would show that it was reached."""
    backbone = backbone_of(network())
    weights = {name: backbone.tensors[f"{name}.weight"] for name in SIZES}
    tensors = {f"lycoris_{name}.diff": torch.ones_like(weight) for name, weight in weights.items()}

    with pytest.raises(AdapterTooLarge, match="found changes of more than 500 bytes"):
        read_lycoris({**tensors, "lycoris_point.diff": torch.ones(1)}, backbone, max_bytes=500)
    assert read_lycoris(tensors, backbone, max_bytes=768).keys() == SIZES.keys()
