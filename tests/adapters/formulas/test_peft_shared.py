"""Files of PEFT's PVeRA, TinyLoRA and UniLoRA, against the weights that PEFT itself merges."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import peft
import pytest
import torch
from tests.adapters.foreign.peft_networks import CLOSE, LINEAR, difference

from lensmount_adapters.errors import AdapterInvalid, AdapterUnsupported
from lensmount_adapters.formulas.module import ForeignModule, Method
from lensmount_adapters.formulas.peft_shared import PVeRA, TinyLoRA, UniLoRA

FC = {"target_modules": LINEAR, "modules_to_save": ["fc"]}
CASES: dict[str, Callable[..., peft.PeftConfig]] = {
    "PVeRA": partial(peft.PveraConfig, r=3),
    "PVeRA without its projections": partial(peft.PveraConfig, r=3, save_projection=False, projection_prng_key=4),
    "TinyLoRA": partial(peft.TinyLoraConfig, r=3, u=5),
    "TinyLoRA with tied vectors": partial(peft.TinyLoraConfig, r=3, u=5, weight_tying=0.5),
    "TinyLoRA with one vector": partial(peft.TinyLoraConfig, r=3, u=5, weight_tying=1.0),
    "TinyLoRA without its projections": partial(peft.TinyLoraConfig, r=3, u=5, save_projection=False),
    "UniLoRA": partial(peft.UniLoraConfig, r=3, theta_d_length=20, save_indices=True),
}


@pytest.mark.filterwarnings("ignore:Specified to not save")  # PEFT advises to save them
@pytest.mark.parametrize("method", CASES)
def test_the_weights_equal_those_that_peft_merges(method: str, tmp_path: Path) -> None:
    error, reading = difference(CASES[method](**FC), tmp_path, size=0.5)

    assert error < CLOSE
    assert set(reading.deltas["up"]) == {"lora_A.weight", "lora_B.weight"}


ONES = {"unilora_scales_A": torch.ones(2, 12), "unilora_scales_B": torch.ones(16, 2)}
PLACES = {"unilora_indices_A": torch.zeros(2, 12).long(), "unilora_indices_B": torch.full((16, 2), 3)}
TINY = {"tinylora_A": torch.ones(2, 12), "tinylora_B": torch.ones(16, 2)}
BROKEN: dict[str, tuple[Method, dict[str, torch.Tensor], dict[str, object], str]] = {
    "PVeRA that samples": (PVeRA(), {}, {"sample_at_inference": True}, "sample_at_inference"),
    "PVeRA without its projections": (
        PVeRA(),
        {"pvera_lambda_b": torch.ones(16), "pvera_lambda_d": torch.ones(4)},
        {},
        "no tensor pvera_A",
    ),
    "TinyLoRA without its vector": (TinyLoRA(), TINY, {"place": (1, 2)}, r"tinylora_v\.1: found no such vector"),
    "TinyLoRA of layers in another order": (TinyLoRA(), TINY, {"place": None}, "divided otherwise"),
    "UniLoRA outside its vector": (UniLoRA(), ONES | PLACES, {"r": 2}, "places up to 3"),
    "UniLoRA of another layer": (UniLoRA(), ONES | PLACES, {"r": 3}, "unilora_indices_A of shape"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_fit_is_refused(case: str) -> None:
    method, parts, config, words = BROKEN[case]
    shared = {"unilora_theta_d": torch.ones(3), "tinylora_v.0": torch.ones(5)}

    with pytest.raises((AdapterInvalid, AdapterUnsupported), match=rf"{words}.*Fix: "):
        method.read(ForeignModule("up", parts, torch.ones(16, 12).double(), config=config, shared=shared))
