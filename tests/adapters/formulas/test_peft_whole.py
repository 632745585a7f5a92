"""Files of PEFT's IA3, SHiRA, FourierFT, C3A and LN_TUNING, against the weights that PEFT itself merges."""

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
from lensmount_adapters.formulas.peft_whole import C3A, IA3, FourierFT, SHiRA, Whole

ALL = [*LINEAR, *CONVOLUTIONS]
FC = {"modules_to_save": ["fc"]}
CASES: dict[str, Callable[..., peft.PeftConfig]] = {
    "IA3": partial(peft.IA3Config, target_modules=ALL, feedforward_modules=["down"], **FC),
    "IA3 on inputs": partial(
        peft.IA3Config, target_modules=["grouped", "point", "up"], feedforward_modules=["grouped", "point"], **FC
    ),
    "IA3 on groups": partial(peft.IA3Config, target_modules=["grouped"], feedforward_modules=[], **FC),
    "IA3 by a pattern": partial(peft.IA3Config, target_modules="up|down", feedforward_modules="d.*n", **FC),
    "SHiRA": partial(peft.ShiraConfig, r=2, target_modules=LINEAR, **FC),
    "FourierFT": partial(peft.FourierFTConfig, n_frequency=20, random_loc_seed=5, target_modules=LINEAR, **FC),
    "C3A": partial(peft.C3AConfig, block_size=4, target_modules=LINEAR, **FC),
    "LN_TUNING": partial(peft.LNTuningConfig, target_modules=["norm", "layer_norm"], **FC),
    "modules_to_save": partial(
        peft.LoraConfig,
        r=2,
        target_modules=["up"],
        modules_to_save=["fc", "norm", "layer_norm", "point", "grouped", "square"],
    ),
}


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # a warning of PEFT
@pytest.mark.parametrize("method", CASES)
def test_the_weights_equal_those_that_peft_merges(method: str, tmp_path: Path) -> None:
    error, _ = difference(CASES[method](), tmp_path)

    assert error < CLOSE


def test_factors_for_rows_and_columns_stay_factors(tmp_path: Path) -> None:
    _, reading = difference(CASES["IA3"](), tmp_path)

    assert set(reading.deltas["down"]) == {"weight.column_scale"}
    assert set(reading.deltas["up"]) == {"weight.row_scale", "bias.delta"}


def test_indices_in_float32_are_read_as_windows_writes_them() -> None:
    places = torch.tensor([[0, 15], [11, 3]])
    read = [
        SHiRA().read(
            ForeignModule("up", {"shira_weight": torch.ones(2), "shira_indices": indices}, torch.ones(16, 12).double())
        )
        for indices in (places.int(), places.float())
    ]
    assert torch.equal(read[0]["weight.delta"], read[1]["weight.delta"])
    assert read[0]["weight.delta"].sum() == 2


BROKEN: dict[str, tuple[Method, dict[str, torch.Tensor]]] = {
    "IA3 of another layer": (IA3(), {"ia3_l": torch.ones(15, 1)}),
    "SHiRA outside the weight": (SHiRA(), {"shira_weight": torch.ones(1), "shira_indices": torch.tensor([[16], [0]])}),
    "SHiRA below 0": (SHiRA(), {"shira_weight": torch.ones(1), "shira_indices": torch.tensor([[-1], [0]])}),
    "FourierFT of more numbers than the weight": (FourierFT(), {"fourierft_spectrum": torch.ones(193)}),
    "C3A of another layer": (C3A(), {"c3a_kernel": torch.ones(3, 3, 5)}),
    "a weight of another layer": (Whole(), {"weight": torch.ones(16, 13)}),
    "a bias that the backbone lacks": (Whole(), {"bias": torch.ones(16)}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_fit_is_refused(case: str) -> None:
    method, parts = BROKEN[case]

    with pytest.raises(AdapterInvalid, match=r"found .*(expected|but).*Fix: "):
        method.read(ForeignModule("up", parts, torch.ones(16, 12).double()))
