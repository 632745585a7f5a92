"""Options of adapter_config.json: types, patterns by module, and patterns that would keep a server busy."""

from __future__ import annotations

from typing import Any

import pytest

from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.formulas.peft_config import count, flag, for_module, generator, number

WRONG: list[Any] = ["8", None, True, [8], float("nan"), float("inf"), 10**400]


@pytest.mark.parametrize("value", WRONG)
def test_a_number_of_another_kind_is_refused_by_its_key(value: object) -> None:
    with pytest.raises(AdapterInvalid, match=r"adapter_config.json, lora_alpha: found .*expected a number.*Fix: "):
        number({"lora_alpha": value}, "lora_alpha")


@pytest.mark.parametrize("value", ["8", 0, -1, 2.5, True, 2**40])
def test_a_count_of_another_kind_is_refused(value: object) -> None:
    with pytest.raises(AdapterInvalid, match="expected a whole number above 0"):
        count({"r": value}, "r")


@pytest.mark.parametrize("value", ["8", None, True, 2.5, -1, 10**300])
def test_a_seed_that_torch_does_not_take_is_refused(value: object) -> None:
    with pytest.raises(AdapterInvalid, match=r"projection_seed: found .*expected a whole number from 0, the seed"):
        generator({"projection_seed": value}, "projection_seed", 42)


def test_missing_options_have_peft_s_defaults() -> None:
    assert number({}, "lora_alpha", 8) == 8
    assert count({}, "r", 8) == 8
    assert flag({}, "use_dora") is False
    assert flag({"use_cayley_neumann": None}, "use_cayley_neumann", True) is True
    with pytest.raises(AdapterInvalid, match="expected true or false"):
        flag({"use_dora": "yes"}, "use_dora")


def test_the_first_pattern_that_matches_the_end_of_a_path_counts() -> None:
    config = {
        "r": 8,
        "lora_alpha": 16,
        "rank_pattern": {"layer4.0.conv1": 2, "conv.": 3},
        "alpha_pattern": {"conv2": 5, ".*conv2": 7},
    }

    assert for_module(config, "layer4.0.conv1")["r"] == 2
    assert for_module(config, "layer3.0.conv1")["r"] == 3
    assert for_module(config, "layer3.0.conv2")["lora_alpha"] == 5
    assert for_module(config, "layer3.0.conv2.more")["lora_alpha"] == 16


@pytest.mark.parametrize("key", ["(a+)+b", "(a|a)*c", "a" * 600, "(unclosed", "[a-z]+*", "x{2}{3}"])
def test_patterns_that_could_run_for_ever_or_are_none_are_refused(key: str) -> None:
    with pytest.raises(AdapterInvalid, match="found the pattern"):
        for_module({"rank_pattern": {key: 2}}, "a" * 40)
