"""Files of PEFT's GLoRA, DEFT, PEANuT, OSF and FRoD, against the weights that PEFT itself merges."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import peft
import pytest
import torch
from tests.adapters.foreign.peft_networks import CLOSE, LINEAR, difference, saved, trained

from lensmount_adapters.errors import AdapterInvalid, AdapterUnsupported
from lensmount_adapters.formulas.module import ForeignModule, Method
from lensmount_adapters.formulas.peft_from_base import ACTIVATIONS, DEFT, OSF, FRoD, GLoRA, PEANuT

FC = {"target_modules": LINEAR, "modules_to_save": ["fc"]}
CASES: dict[str, Callable[..., peft.PeftConfig]] = {
    "GLoRA": partial(peft.GloraConfig, r=3),
    "GLoRA of vectors": partial(peft.GloraConfig, config_A_B="vector", config_C="vector", config_D_E="vector"),
    "GLoRA of numbers": partial(peft.GloraConfig, config_A_B="constant", config_C="none", config_D_E="constant"),
    "GLoRA of the bias alone": partial(peft.GloraConfig, config_A_B="none", config_C="lora", config_D_E="none"),
    "DEFT": partial(peft.DeftConfig, r=3),
    "DEFT with alpha": partial(peft.DeftConfig, r=3, alpha=2),
    "DEFT, qr": partial(peft.DeftConfig, r=3, decomposition_method="qr"),
    "DEFT, para": partial(peft.DeftConfig, r=3, decomposition_method="qr", para=True),
    "PEANuT": partial(peft.PeanutConfig, r=3),
    "PEANuT of two layers": partial(peft.PeanutConfig, r=3, depth=2, scaling=0.5, act_fn="gelu"),
    "OSF": partial(peft.OSFConfig, effective_rank=3),
    "OSF of half the rank": peft.OSFConfig,
    "FRoD": partial(peft.FrodConfig, progressbar=False),
    "FRoD without places": partial(peft.FrodConfig, progressbar=False, sparse_rate=0.0),
    "FRoD with many places": partial(peft.FrodConfig, progressbar=False, sparse_rate=0.4),
}


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # a warning of PEFT
@pytest.mark.parametrize("method", CASES)
def test_the_weights_equal_those_that_peft_merges(method: str, tmp_path: Path) -> None:
    error, _ = difference(CASES[method](**FC), tmp_path)

    assert error < CLOSE


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_every_activation_gives_the_weights_that_peft_merges(act: str, tmp_path: Path) -> None:
    error, _ = difference(peft.PeanutConfig(r=2, depth=1, act_fn=act, **FC), tmp_path)

    assert error < CLOSE


def test_products_stay_factors_that_a_mixed_batch_can_use(tmp_path: Path) -> None:
    for method in ("DEFT", "PEANuT"):
        _, reading = difference(CASES[method](**FC), tmp_path / method)
        assert set(reading.deltas["up"]) == {"lora_A.weight", "lora_B.weight"}


def test_frod_saved_without_its_projections_is_refused_with_what_helps(tmp_path: Path) -> None:
    trained(peft.FrodConfig(progressbar=False, save_projection=False, **FC), tmp_path)
    tensors, config = saved(tmp_path)
    parts = {name.rpartition(".")[2]: tensor for name, tensor in tensors.items() if ".up." in name}

    with pytest.raises(AdapterInvalid, match=r"frod_V\.up.*save_projection=True\. Fix: .*adapters extract"):
        FRoD().read(ForeignModule("up", parts, torch.ones(16, 12).double(), config=config))


V = torch.eye(12)
FROD = {"frod_lambda_l": torch.ones(12), "frod_lambda_s_values": torch.ones(1)}
BROKEN: dict[str, tuple[Method, dict[str, torch.Tensor], dict[str, object], str]] = {
    "GLoRA of another layer": (GLoRA(), {"glora_A.X": torch.ones(15, 1)}, {}, "glora_A.X"),
    "half of a product of GLoRA": (GLoRA(), {"glora_B.Xd": torch.ones(16, 2)}, {}, "glora_B.Xu as well"),
    "DEFT without R": (DEFT(), {"deft_P": torch.ones(16, 2)}, {}, "deft_R as well"),
    "DEFT by a new method": (DEFT(), {"deft_P": torch.ones(16, 2)}, {"decomposition_method": "lu"}, "expected relu or"),
    "PEANuT bent otherwise": (
        PEANuT(),
        {"peanut_B.weight": torch.ones(16, 2)},
        {"act_fn": "x"},
        "found PEANuT",
    ),
    "OSF of more values than the layer has": (OSF(), {"osf_svd_params.U_low": torch.ones(16, 13)}, {}, "13 singular"),
    "FRoD of another layer": (FRoD(), FROD | {"frod_lambda_l": torch.ones(11)}, {}, "frod_lambda_l of shape"),
    "FRoD outside the matrix": (FRoD(), FROD, {"module": "far"}, "places up to 12"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_fit_is_refused(case: str) -> None:
    method, parts, config, words = BROKEN[case]
    shared = {
        "frod_V.up": V,
        "frod_s_indices.up": torch.zeros(2, 1).long(),
        "frod_V.far": V,
        "frod_s_indices.far": torch.full((2, 1), 12),
    }
    bias = torch.ones(16).double()
    module = ForeignModule("up", parts, torch.ones(16, 12).double(), bias, config=config, shared=shared)

    with pytest.raises((AdapterInvalid, AdapterUnsupported), match=rf"{words}.*Fix: "):
        method.read(module)


def test_frod_names_layers_of_one_kind_as_peft_does() -> None:
    from peft.tuners.frod.model import _category_from_key  # PEFT's own rule

    for path in ("up", "blocks.3.attn.qkv", "blocks.3.mlp.fc1", "layers.2", "a.layer.0.attention.output.dense"):
        kind = _category_from_key(path)
        shared = {f"frod_V.{kind}": V.double(), f"frod_s_indices.{kind}": torch.zeros(2, 1).long()}
        module = ForeignModule(path, FROD, torch.eye(16, 12).double(), config={"module": path}, shared=shared)
        assert FRoD().read(module)
