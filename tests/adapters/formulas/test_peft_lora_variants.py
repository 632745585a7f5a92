"""Files of LoRA with KaSA, BD-LoRA, VeLoRA and MonteCLoRA, against the weights that PEFT itself merges."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import peft
import pytest
import torch
from peft.tuners.lora.config import BdLoraConfig
from tests.adapters.foreign.peft_networks import CLOSE, LINEAR, difference

from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.formulas.module import ForeignModule
from lensmount_adapters.formulas.peft_lora_variants import BDLoRA, KaSA

LORA = partial(peft.LoraConfig, r=4, lora_alpha=6, target_modules=LINEAR, modules_to_save=["fc"])
BLOCKS = {"target_modules_bd_a": ["up"], "target_modules_bd_b": ["down"], "nblocks": 2, "match_strict": False}
CASES: dict[str, Callable[..., peft.PeftConfig]] = {
    "KaSA": partial(LORA, kasa_config=peft.KasaConfig()),
    "KaSA, rsLoRA": partial(LORA, kasa_config=peft.KasaConfig(), use_rslora=True),
    "BD-LoRA": partial(LORA, use_bdlora=BdLoraConfig(**BLOCKS)),
    "BD-LoRA of four blocks": partial(LORA, use_bdlora=BdLoraConfig(**BLOCKS | {"nblocks": 4})),
    "VeLoRA": partial(LORA, velora_config=peft.VeloraConfig()),
    "MonteCLoRA": partial(LORA, monteclora_config=peft.MontecloraConfig()),
}


@pytest.mark.parametrize("method", CASES)
def test_the_weights_equal_those_that_peft_merges(method: str, tmp_path: Path) -> None:
    error, reading = difference(CASES[method](), tmp_path)

    assert error < CLOSE
    assert reading.deltas["up"]["lora_B.weight"].shape[1] == (8 if "KaSA" in method else 4)


@pytest.mark.parametrize("method", ["VeLoRA", "MonteCLoRA"])
def test_what_takes_part_in_training_alone_is_said_to_be_ignored(method: str, tmp_path: Path) -> None:
    _, reading = difference(CASES[method](), tmp_path)

    assert set(reading.ignored.values()) == {"it takes part in training alone"}


def test_blocks_that_do_not_divide_a_factor_are_refused() -> None:
    parts = {"lora_A.weight": torch.ones(3, 6), "lora_B.weight": torch.ones(16, 3)}
    module = ForeignModule("up", parts, torch.ones(16, 12).double(), config={"use_bdlora": {"nblocks": 2}})

    with pytest.raises(AdapterInvalid, match=r"3 rows in 2 blocks.*Fix: "):
        BDLoRA().read(module)


def test_kasa_of_the_whole_rank_is_refused() -> None:
    module = ForeignModule("up", {"lora_B.weight": torch.ones(16, 12)}, torch.ones(16, 12).double())

    with pytest.raises(AdapterInvalid, match=r"a rank of 12.*Fix: "):
        KaSA().read(module)
