"""Files of PEFT with low-rank methods, against the weights that PEFT itself merges."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tests.adapters.foreign.peft_networks import (
    CLOSE,
    CONVOLUTIONS,
    LINEAR,
    backbone_of,
    difference,
    network,
    saved,
    trained,
)

from lensmount_adapters.errors import AdapterInvalid, AdapterUnsupported
from lensmount_adapters.foreign.peft import read_peft
from lensmount_adapters.formulas.module import ForeignModule, Method
from lensmount_adapters.formulas.peft_low_rank import LoRA, MiSS, VBLoRA, VeRA

ALL = [*LINEAR, *CONVOLUTIONS]
FC = {"modules_to_save": ["fc"]}
LORA: dict[str, dict[str, Any]] = {
    "plain": {"lora_alpha": 5},
    "rsLoRA": {"lora_alpha": 5, "use_rslora": True},
    "patterns": {"lora_alpha": 5, "rank_pattern": {"up": 2, "con.": 4}, "alpha_pattern": {"down": 7, "square": 0.5}},
    "gaussian": {"init_lora_weights": "gaussian"},
    "MiCA": {"init_lora_weights": "mica", "target_modules": LINEAR},
    "orthogonal": {"r": 4, "init_lora_weights": "orthogonal", "target_modules": LINEAR},
    "PiSSA": {"lora_alpha": 5, "init_lora_weights": "pissa", "target_modules": LINEAR},
    "OLoRA": {"lora_alpha": 5, "init_lora_weights": "olora", "target_modules": LINEAR},
    "PiSSA with rsLoRA": {"use_rslora": True, "init_lora_weights": "pissa", "target_modules": LINEAR},
    "lora_bias": {"lora_bias": True},
    "bias lora_only": {"bias": "lora_only"},
    "bias all": {"bias": "all"},
    "DoRA": {"use_dora": True},
    "DoRA with bias": {"use_dora": True, "bias": "all", "use_rslora": True},
    "target_parameters": {"target_modules": ["conv"], "target_parameters": ["up.weight", "down.weight"]},
}


@pytest.mark.parametrize("variant", LORA)
def test_lora_equals_the_weights_that_peft_merges(variant: str, tmp_path: Path) -> None:
    config = peft.LoraConfig(**{"r": 3, "target_modules": ALL, **FC, **LORA[variant]})

    error, reading = difference(config, tmp_path)

    assert error < CLOSE
    assert set(reading.head) == {"weight", "bias"}


OTHERS: dict[str, Callable[..., peft.PeftConfig]] = {
    "AdaLoRA": partial(
        peft.AdaLoraConfig, total_step=10, init_r=4, target_r=2, lora_alpha=5, target_modules=LINEAR, **FC
    ),
    "VeRA": partial(peft.VeraConfig, r=5, target_modules=LINEAR, **FC),
    "VeRA without projections": partial(
        peft.VeraConfig, r=5, projection_prng_key=3, save_projection=False, target_modules=LINEAR, **FC
    ),
    "VB-LoRA": partial(peft.VBLoRAConfig, r=3, num_vectors=10, vector_length=4, topk=2, target_modules=LINEAR, **FC),
    "VB-LoRA, best only": partial(
        peft.VBLoRAConfig,
        r=3,
        num_vectors=10,
        vector_length=4,
        topk=3,
        save_only_topk_weights=True,
        target_modules=LINEAR,
        **FC,
    ),
    "MiSS": partial(peft.MissConfig, r=4, target_modules=LINEAR, **FC),
    "MiSS of a rank that does not divide": partial(peft.MissConfig, r=5, target_modules=LINEAR, **FC),
    "MiSS bat": partial(peft.MissConfig, r=4, init_weights="bat", target_modules=LINEAR, **FC),
    "MiSS mini": partial(peft.MissConfig, r=4, mini_r=4, init_weights="mini", target_modules=LINEAR, **FC),
    "DeLoRA": partial(peft.DeloraConfig, r=3, target_modules=LINEAR, **FC),
}


@pytest.mark.filterwarnings("ignore:Specified to not save")  # a warning of PEFT
@pytest.mark.parametrize("method", OTHERS)
def test_other_low_rank_methods_equal_the_weights_that_peft_merges(method: str, tmp_path: Path) -> None:
    error, _ = difference(OTHERS[method](), tmp_path)

    assert error < CLOSE


def test_adalora_after_pruning_keeps_the_scale_of_its_first_rank(tmp_path: Path) -> None:
    config = peft.AdaLoraConfig(total_step=10, init_r=4, target_r=2, target_modules=LINEAR, **FC)
    net, model = trained(config, tmp_path)
    model.peft_config["default"].rank_pattern = {f"{name}.lora_E": [True, False, True, True] for name in LINEAR}
    with torch.no_grad():
        for name in LINEAR:  # PEFT masks what it prunes
            getattr(model.base_model.model, name).lora_E["default"][1] = 0
    model.save_pretrained(tmp_path)

    reading = read_peft(*saved(tmp_path), backbone_of(net))

    expected = model.merge_and_unload().state_dict()
    up = reading.deltas["up"]
    assert up["lora_A.weight"].shape[0] == 3
    merged = net.up.weight.double() + up["lora_B.weight"] @ up["lora_A.weight"]
    assert (merged - expected["up.weight"]).norm() < CLOSE * merged.norm()


@pytest.mark.parametrize("start", ["pissa_niter_4", "corda", "loftq", "lora_ga", "tomorrow"])
def test_lora_whose_base_was_changed_by_something_that_is_not_in_the_file_is_refused(start: str) -> None:
    module = ForeignModule(
        "up",
        {"lora_A.weight": torch.ones(2, 12), "lora_B.weight": torch.ones(16, 2)},
        torch.ones(16, 12).double(),
        config={"init_lora_weights": start},
    )

    with pytest.raises(AdapterUnsupported, match=rf"up: found LoRA that began with init_lora_weights '{start}'") as no:
        LoRA().read(module)

    assert "path_initial_model_for_weight_conversion" in str(no.value)


def test_the_conversion_that_the_refusal_of_pissa_advises_gives_plain_lora(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = network()
    config = peft.LoraConfig(r=2, init_lora_weights="pissa_niter_4", target_modules=LINEAR, **FC)
    model: Any = peft.get_peft_model(net, config)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "start")
    model.peft_config["default"].init_lora_weights = "pissa_niter_4"
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.mul_(1.5)
    model.save_pretrained(tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    fresh = network()

    reading = read_peft(*saved(tmp_path / "plain"), backbone_of(fresh))

    up = reading.deltas["up"]
    merged = fresh.up.weight.double() + up["lora_B.weight"] @ up["lora_A.weight"]
    expected = model.merge_and_unload().state_dict()["up.weight"]
    assert (merged - expected).norm() < CLOSE * merged.norm()


@pytest.mark.parametrize("layer", ["grouped", "dilated"])
def test_lora_of_a_convolution_that_peft_computes_otherwise_is_refused(layer: str, tmp_path: Path) -> None:
    config = peft.LoraConfig(r=4, target_modules=[layer], **FC)
    net, _ = trained(config, tmp_path)

    with pytest.raises(AdapterUnsupported, match=f"{layer}: found LoRA .*(groups|dilation)"):
        read_peft(*saved(tmp_path), backbone_of(net))


WRONG: dict[str, tuple[Method, dict[str, torch.Tensor], dict[str, torch.Tensor]]] = {
    "VeRA without its projections": (VeRA(), {"vera_lambda_b": torch.ones(16), "vera_lambda_d": torch.ones(2)}, {}),
    "VeRA of a larger layer": (
        VeRA(),
        {"vera_lambda_b": torch.ones(16), "vera_lambda_d": torch.ones(2)},
        {"vera_A": torch.ones(2, 3), "vera_B": torch.ones(16, 2)},
    ),
    "VB-LoRA of another bank": (
        VBLoRA(),
        {
            "vblora_logits_A_topk_weights": torch.ones(2, 3, 1),
            "vblora_logits_A_topk_indices": torch.full((2, 3, 2), 9),
        },
        {"vblora_vector_bank": torch.ones(4, 4)},
    ),
    "VB-LoRA with a flat bank": (VBLoRA(), {"vblora_logits_A": torch.ones(2, 3, 4)}, {}),
    "MiSS of another layer": (MiSS(), {"miss_block": torch.ones(4, 15)}, {}),
    "half of LoRA": (LoRA(), {"lora_A.weight": torch.ones(2, 12)}, {}),
    "LoRA with NaN": (
        LoRA(),
        {"lora_A.weight": torch.full((2, 12), torch.nan), "lora_B.weight": torch.ones(16, 2)},
        {},
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_with_its_name(case: str) -> None:
    method, parts, shared = WRONG[case]

    with pytest.raises(AdapterInvalid, match=r"up[:,].*found .*Fix: "):
        method.read(ForeignModule("up", parts, torch.ones(16, 12).double(), shared=shared))
