"""Which methods of PEFT are read, and which are refused by their names with the reason and what helps."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
from peft.utils.peft_types import PeftType
from tests.adapters.foreign.peft_networks import (
    CLOSE,
    LINEAR,
    backbone_of,
    largest_error,
    saved,
    trained,
    weights_with,
)

from lensmount_adapters.errors import AdapterUnsupported
from lensmount_adapters.foreign.peft import read_peft
from lensmount_adapters.formulas.peft_methods import METHODS, REFUSED, method_of


@pytest.mark.parametrize("kind", [kind.value for kind in PeftType])
def test_every_method_of_the_library_is_read_or_refused_by_its_name(kind: str) -> None:
    if kind in METHODS:
        assert method_of({"peft_type": kind}) is METHODS[kind]
        return
    with pytest.raises(AdapterUnsupported, match=f"found {kind} of PEFT: .* Fix: "):
        method_of({"peft_type": kind})


def test_no_method_is_both_read_and_refused() -> None:
    assert METHODS.keys() & REFUSED.keys() == set()


@pytest.mark.parametrize("kind", ["TOMORROW", "", "lora?"])
def test_an_unknown_method_is_refused_with_the_known_ones(kind: str) -> None:
    with pytest.raises(AdapterUnsupported, match="expected one of LORA, ADALORA"):
        method_of({"peft_type": kind})


def test_bone_is_the_old_name_of_miss() -> None:
    assert method_of({"peft_type": "BONE"}) is METHODS["MISS"]


OPTIONS: list[tuple[str, Any, str]] = [
    ("alora_invocation_tokens", [1, 2], "aLoRA"),
    ("arrow_config", {"top_k": 2}, "Arrow"),
    ("layer_replication", [[0, 2]], "layer replication"),
    ("use_qalora", True, "QALoRA"),
    ("trainable_token_indices", [3], "trainable tokens"),
]


@pytest.mark.parametrize(("option", "value", "word"), OPTIONS)
def test_options_of_lora_that_cannot_be_imported_are_refused(option: str, value: object, word: str) -> None:
    with pytest.raises(AdapterUnsupported, match=f"LoRA with {word}, expected .* Fix: "):
        method_of({"peft_type": "LORA", option: value})


AS_LORA: dict[str, peft.PeftConfig] = {
    "PSOFT": peft.PsoftConfig(r=3, target_modules=LINEAR, modules_to_save=["fc"]),
    "UniLoRA": peft.UniLoraConfig(r=3, theta_d_length=20, target_modules=LINEAR, modules_to_save=["fc"]),
}


@pytest.mark.parametrize("method", AS_LORA)
def test_what_is_refused_can_be_imported_after_the_advice_is_followed(method: str, tmp_path: Path) -> None:
    net, model = trained(AS_LORA[method], tmp_path / "first", size=0.5)

    with pytest.raises(AdapterUnsupported, match=rf"found {method} of PEFT.*peft\.save_as_lora"):
        read_peft(*saved(tmp_path / "first"), backbone_of(net))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT advises on what it saves
        peft.save_as_lora(tmp_path / "lora", model, rank=3)
    reading = read_peft(*saved(tmp_path / "lora"), backbone := backbone_of(net))
    expected = model.merge_and_unload().state_dict()
    assert largest_error(weights_with(reading, backbone), expected) < CLOSE
