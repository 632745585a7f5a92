"""Files of PEFT's LoHa, LoKr, HiRA, GraLoRA and RandLoRA, against the weights that PEFT itself merges."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import peft
import pytest
import torch
from tests.adapters.foreign.peft_networks import CLOSE, CONVOLUTIONS, LINEAR, difference

from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.formulas.module import ForeignModule, Method
from lensmount_adapters.formulas.peft_products import GraLoRA, LoHa, LoKr, RandLoRA

ALL = [*LINEAR, *CONVOLUTIONS]
FC = {"modules_to_save": ["fc"]}
CASES: dict[str, Callable[..., peft.PeftConfig]] = {
    "LoHa": partial(peft.LoHaConfig, r=3, alpha=5, target_modules=ALL, **FC),
    "LoHa on groups": partial(peft.LoHaConfig, r=2, alpha=5, target_modules=["grouped"], **FC),
    "LoHa, patterns": partial(
        peft.LoHaConfig, r=3, alpha=5, rank_pattern={"up": 2}, alpha_pattern={"down": 9}, target_modules=ALL, **FC
    ),
    "LoHa, effective convolution": partial(
        peft.LoHaConfig, r=3, alpha=5, target_modules=ALL, use_effective_conv2d=True, **FC
    ),
    "LoKr": partial(peft.LoKrConfig, r=2, alpha=5, target_modules=ALL, **FC),
    "LoKr, both products": partial(
        peft.LoKrConfig, r=1, alpha=5, decompose_both=True, decompose_factor=4, target_modules=ALL, **FC
    ),
    "LoKr, both full": partial(peft.LoKrConfig, r=20, alpha=5, target_modules=ALL, **FC),
    "LoKr, effective convolution": partial(
        peft.LoKrConfig, r=1, alpha=5, target_modules=ALL, use_effective_conv2d=True, **FC
    ),
    "LoKr, effective convolution of a square layer": partial(
        peft.LoKrConfig, r=2, alpha=4, target_modules=["dilated"], use_effective_conv2d=True, **FC
    ),
    "LoKr, patterns": partial(peft.LoKrConfig, r=2, alpha=5, rank_pattern={"up": 1}, target_modules=ALL, **FC),
    "HiRA": partial(peft.HiraConfig, r=3, target_modules=ALL, **FC),
    "GraLoRA": partial(peft.GraloraConfig, r=4, gralora_k=2, target_modules=LINEAR, **FC),
    "GraLoRA, hybrid": partial(peft.GraloraConfig, r=4, gralora_k=2, hybrid_r=3, target_modules=LINEAR, **FC),
    "RandLoRA": partial(peft.RandLoraConfig, r=3, randlora_alpha=6, target_modules=LINEAR, **FC),
    "RandLoRA, sparse": partial(peft.RandLoraConfig, r=3, sparse=True, target_modules=LINEAR, **FC),
}


@pytest.mark.parametrize("method", CASES)
def test_the_weights_equal_those_that_peft_merges(method: str, tmp_path: Path) -> None:
    error, _ = difference(CASES[method](), tmp_path)

    assert error < CLOSE


def test_loha_stays_in_factors_and_an_alpha_of_0_changes_nothing(tmp_path: Path) -> None:
    _, reading = difference(CASES["LoHa"](), tmp_path)
    assert reading.deltas["up"]["lora_A.weight"].shape == (9, 12)

    parts = {name: torch.ones(16, 2) if name.endswith("a") else torch.ones(2, 12) for name in sorted(LoHa.reads)[:4]}
    module = ForeignModule("up", parts, torch.ones(16, 12).double(), config={"alpha": 0})
    assert not LoHa().read(module)["weight.delta"].any()


BROKEN: dict[str, tuple[Method, dict[str, torch.Tensor]]] = {
    "LoKr without w1": (LoKr(), {"lokr_w2": torch.ones(4, 4)}),
    "GraLoRA without A": (GraLoRA(), {}),
    "GraLoRA of blocks that do not divide": (GraLoRA(), {"gralora_A": torch.ones(5, 2, 5)}),
    "RandLoRA without projections": (
        RandLoRA(),
        {"randlora_lambda": torch.ones(3, 4), "randlora_gamma": torch.ones(4, 12)},
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_fit_is_refused(case: str) -> None:
    method, parts = BROKEN[case]

    with pytest.raises(AdapterInvalid, match=r"found .*expected .*Fix: "):
        method.read(ForeignModule("up", parts, torch.ones(16, 12).double()))
