"""Flattened names, prefixes and spellings, read with the table of a backbone's paths."""

from __future__ import annotations

import pytest
import torch

from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.foreign.lycoris_names import grouped

PATHS = ("conv1", "layer1.0.conv1", "layer1.0.downsample.0", "layer4.2.conv2", "blocks.0.attn.qkv", "head_drop.fc_a")
PARTS = ("lora_up.weight", "lora_down.weight", "alpha", "dora_scale", "weight", "on_input", "diff")
ONE = torch.ones(1)


def read(*names: str, paths: tuple[str, ...] = PATHS) -> dict[str, list[str]]:
    return {path: sorted(parts) for path, parts in grouped(dict.fromkeys(names, ONE), PARTS, paths).items()}


@pytest.mark.parametrize("prefix", ["lycoris_", "lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lora_", ""])
def test_the_usual_prefixes_are_known_even_for_one_name(prefix: str) -> None:
    assert read(f"{prefix}layer1_0_conv1.diff") == {"layer1.0.conv1": ["diff"]}


def test_any_other_prefix_is_found_if_it_fits_all_names() -> None:
    assert read("my_net_conv1.diff", "my_net_layer4_2_conv2.diff") == {"conv1": ["diff"], "layer4.2.conv2": ["diff"]}


def test_underscores_of_the_module_s_own_name_are_kept() -> None:
    assert read("lycoris_head_drop_fc_a.diff") == {"head_drop.fc_a": ["diff"]}


@pytest.mark.parametrize(
    ("up", "down"),
    [
        ("lora_up.weight", "lora_down.weight"),
        ("lora_B.weight", "lora_A.weight"),
        ("lora.up.weight", "lora.down.weight"),
        ("lora_linear_layer.up.weight", "lora_linear_layer.down.weight"),
    ],
)
@pytest.mark.parametrize("stem", ["lycoris_blocks_0_attn_qkv", "blocks.0.attn.qkv", "unet.blocks.0.attn.qkv"])
def test_the_spellings_of_diffusers_are_read_as_those_of_kohya(stem: str, up: str, down: str) -> None:
    found = read(f"{stem}.{up}", f"{stem}.{down}", f"{stem}.alpha", f"{stem}.lora_magnitude_vector")

    assert found == {"blocks.0.attn.qkv": ["alpha", "dora_scale", "lora_down.weight", "lora_up.weight"]}


def test_the_longest_known_part_counts() -> None:
    assert read("lycoris_conv1.weight", "lycoris_conv1.on_input") == {"conv1": ["on_input", "weight"]}


def test_two_modules_with_one_flattened_name_are_refused_only_if_the_file_uses_it() -> None:
    paths = ("a.b_c", "a_b.c", "conv1")
    assert read("lycoris_conv1.diff", paths=paths) == {"conv1": ["diff"]}

    with pytest.raises(AdapterInvalid, match=r"'lycoris_a_b_c', which stands for both a\.b_c and a_b\.c"):
        read("lycoris_a_b_c.diff", paths=paths)


def test_the_advice_for_an_ambiguous_name_works() -> None:
    paths = ("a.b_c", "a_b.c", "conv1")

    assert read("a.b_c.diff", "a_b.c.alpha", paths=paths) == {"a.b_c": ["diff"], "a_b.c": ["alpha"]}
    assert read("unet.a.b_c.diff", paths=paths) == {"a.b_c": ["diff"]}


def test_a_prefix_that_can_be_read_in_two_ways_is_refused_and_its_advice_works() -> None:
    with pytest.raises(AdapterInvalid, match=r"begin with 'mine' or with 'mine_layer1_0'.*lycoris_<module>"):
        read("mine_layer1_0_conv1.diff")

    assert read("lycoris_layer1_0_conv1.diff") == {"layer1.0.conv1": ["diff"]}


def test_all_modules_that_the_backbone_does_not_have_are_listed_at_once_with_the_nearest() -> None:
    with pytest.raises(AdapterInvalid) as refusal:
        read("lycoris_layer4_2_conv2.diff", "lycoris_layer4_2_conv.diff", "lycoris_text_model.diff")

    message = str(refusal.value)
    assert "'lycoris_layer4_2_conv', 'lycoris_text_model'" in message
    assert "behind the prefix 'lycoris_'" in message
    assert "Did you mean 'layer4_2_conv2'?" in message


def test_a_second_prefix_is_not_left_out() -> None:
    with pytest.raises(AdapterInvalid, match="lora_te_conv1"):
        read("lora_unet_conv1.diff", "lora_unet_layer4_2_conv2.diff", "lora_te_conv1.diff")


def test_a_name_without_a_known_part_is_refused() -> None:
    with pytest.raises(AdapterInvalid, match=r"'lycoris_conv1\.lora_side', 'nothing', expected names such as"):
        read("lycoris_conv1.lora_side", "nothing", "lycoris_conv1.diff")


def test_a_long_list_is_cut_and_counted() -> None:
    with pytest.raises(AdapterInvalid, match="and 12 more"):
        read(*(f"lycoris_stage{index}.diff" for index in range(20)))
