"""Files of PEFT's OFT, BOFT, HRA and RoAd, against the weights that PEFT itself merges."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tests.adapters.foreign.peft_networks import CLOSE, CONVOLUTIONS, LINEAR, backbone_of, difference, saved, trained

from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.foreign.peft import read_peft
from lensmount_adapters.formulas.module import ForeignModule, Method
from lensmount_adapters.formulas.parts import merged
from lensmount_adapters.formulas.peft_orthogonal import BOFT, HRA, OFT, RoAd

ALL = [*LINEAR, *CONVOLUTIONS]
FC: dict[str, Any] = {"modules_to_save": ["fc"]}
FOUR: dict[str, Any] = {"oft_block_size": 4, "r": 0, "target_modules": LINEAR, **FC}
CASES: dict[str, Callable[..., peft.PeftConfig]] = {
    "OFT": partial(peft.OFTConfig, **{**FOUR, "target_modules": [*LINEAR, "point"]}),
    "OFT on a 3x3 kernel": partial(peft.OFTConfig, **{**FOUR, "oft_block_size": 3, "target_modules": ["conv"]}),
    "OFT, exact inverse": partial(peft.OFTConfig, use_cayley_neumann=False, **FOUR),
    "OFT, shared block": partial(peft.OFTConfig, block_share=True, **FOUR),
    "OFT, constrained": partial(peft.OFTConfig, coft=True, eps=0.5, **FOUR),
    **{
        f"OFT, {terms} terms": partial(peft.OFTConfig, num_cayley_neumann_terms=terms, **FOUR) for terms in (2, 3, 4, 6)
    },
    "BOFT": partial(peft.BOFTConfig, boft_block_size=4, target_modules=[*LINEAR, "point"], **FC),
    "BOFT on a 3x3 kernel": partial(peft.BOFTConfig, boft_block_size=3, target_modules=["conv"], **FC),
    "HRA": partial(peft.HRAConfig, r=4, target_modules=ALL, **FC),
    "HRA, odd": partial(peft.HRAConfig, r=3, target_modules=ALL, **FC),
    "HRA, orthonormal": partial(peft.HRAConfig, r=4, apply_GS=True, init_weights=False, target_modules=ALL, **FC),
    **{
        f"RoAd {variant}": partial(
            peft.RoadConfig, variant=f"road_{variant}", group_size=4, target_modules=LINEAR, **FC
        )
        for variant in (1, 2, 4)
    },
}


@pytest.mark.parametrize("method", CASES)
def test_the_weights_equal_those_that_peft_merges(method: str, tmp_path: Path) -> None:
    error, _ = difference(CASES[method](), tmp_path)

    assert error < CLOSE


@pytest.mark.parametrize("factor", [1, 2])
def test_boft_in_stages_equals_the_product_with_peft_s_own_permutations(factor: int, tmp_path: Path) -> None:
    """PEFT merges more than one stage on CUDA alone. Its permutations and its formula are the same on a CPU."""
    config = peft.BOFTConfig(boft_block_size=4, boft_n_butterfly_factor=factor, target_modules=["down"], **FC)
    net, model = trained(config, tmp_path)
    layer = model.base_model.model.down
    R = layer.cayley_batch(layer.boft_R["default"].flatten(0, 1)).reshape(layer.boft_R["default"].shape).double()
    turn = torch.eye(16, dtype=torch.float64)
    for stage, P in enumerate(layer.boft_P.double()):
        turn = P @ torch.block_diag(*R[stage]) @ P.T @ turn
    expected = (turn @ net.down.weight.double().T).T * layer.boft_s["default"]

    deltas = read_peft(*saved(tmp_path), backbone_of(net)).deltas["down"]

    found = merged(deltas, net.down.weight.double())
    assert (found - expected).norm() < CLOSE * expected.norm()


def test_reflections_stay_in_factors(tmp_path: Path) -> None:
    _, reading = difference(CASES["HRA"](), tmp_path)

    assert reading.deltas["up"]["lora_A.weight"].shape == (4, 12)


BROKEN: dict[str, tuple[Method, dict[str, torch.Tensor], dict[str, Any]]] = {
    "OFT of a vector": (OFT(), {"oft_R.weight": torch.ones(6)}, {}),
    "OFT of another block": (OFT(), {"oft_R.weight": torch.ones(3, 7)}, {}),
    "OFT of too few blocks": (OFT(), {"oft_R.weight": torch.ones(2, 6)}, {}),
    "OFT of a million terms": (OFT(), {"oft_R.weight": torch.ones(3, 6)}, {"num_cayley_neumann_terms": 1_000_000}),
    "BOFT of another layer": (BOFT(), {"boft_R": torch.ones(1, 4, 4, 4), "boft_s": torch.ones(16, 1)}, {}),
    "BOFT of stages that do not divide": (BOFT(), {"boft_R": torch.ones(4, 3, 4, 4), "boft_s": torch.ones(16, 1)}, {}),
    "HRA of too many reflections": (HRA(), {"hra_u": torch.ones(12, 13)}, {}),
    "RoAd of another group": (RoAd(), {"road_theta": torch.ones(8), "road_alpha": torch.ones(8)}, {"group_size": 10}),
    "RoAd of another variant": (RoAd(), {"road_theta": torch.ones(8)}, {"group_size": 4, "variant": "road_9"}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_fit_is_refused(case: str) -> None:
    method, parts, config = BROKEN[case]

    with pytest.raises(AdapterInvalid, match=r"found .*expected .*Fix: "):
        method.read(ForeignModule("up", parts, torch.ones(16, 12).double(), config=config))
