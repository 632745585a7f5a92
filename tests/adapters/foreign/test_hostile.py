"""Damaged and hostile adapters by the thousand: each is imported, or refused in words, and never anything else."""

from __future__ import annotations

import random
import tempfile
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tests.adapters.foreign.peft_networks import CONVOLUTIONS, LINEAR, backbone_of, network, saved, trained
from torch import Tensor

from lensmount_adapters.errors import LensmountError
from lensmount_adapters.foreign.convert import convert
from lensmount_adapters.foreign.source import Source

ALL = [*LINEAR, *CONVOLUTIONS]
FC: dict[str, Any] = {"modules_to_save": ["fc"]}
KINDS: dict[str, tuple[type, dict[str, Any]]] = {
    "LoRA": (peft.LoraConfig, {"r": 3, "target_modules": ALL, "use_dora": True}),
    "AdaLoRA": (peft.AdaLoraConfig, {"total_step": 10, "init_r": 4, "target_modules": LINEAR}),
    "VeRA": (peft.VeraConfig, {"r": 4, "target_modules": LINEAR}),
    "VB-LoRA": (peft.VBLoRAConfig, {"r": 2, "num_vectors": 8, "vector_length": 4, "target_modules": LINEAR}),
    "MiSS": (peft.MissConfig, {"r": 4, "init_weights": "bat", "target_modules": LINEAR}),
    "DeLoRA": (peft.DeloraConfig, {"r": 3, "target_modules": LINEAR}),
    "LoHa": (peft.LoHaConfig, {"r": 2, "target_modules": ALL, "use_effective_conv2d": True}),
    "LoKr": (peft.LoKrConfig, {"r": 1, "target_modules": ALL}),
    "HiRA": (peft.HiraConfig, {"r": 2, "target_modules": ALL}),
    "GraLoRA": (peft.GraloraConfig, {"r": 4, "gralora_k": 2, "hybrid_r": 2, "target_modules": LINEAR}),
    "RandLoRA": (peft.RandLoraConfig, {"r": 3, "randlora_alpha": 1, "target_modules": LINEAR}),
    "OFT": (peft.OFTConfig, {"oft_block_size": 4, "r": 0, "target_modules": LINEAR}),
    "BOFT": (peft.BOFTConfig, {"boft_block_size": 4, "target_modules": LINEAR}),
    "HRA": (peft.HRAConfig, {"r": 4, "target_modules": ALL}),
    "RoAd": (peft.RoadConfig, {"group_size": 4, "target_modules": LINEAR}),
    "IA3": (peft.IA3Config, {"target_modules": ALL, "feedforward_modules": ["down"]}),
    "SHiRA": (peft.ShiraConfig, {"r": 1, "target_modules": LINEAR}),
    "FourierFT": (peft.FourierFTConfig, {"n_frequency": 10, "scaling": 1.0, "target_modules": LINEAR}),
    "C3A": (peft.C3AConfig, {"block_size": 4, "target_modules": LINEAR}),
}
VALUES: list[Any] = [None, 0, -1, 1, 3, 10**9, 1e300, -0.5, True, "x", [], {}, [1, 2], {"up": 2}, {"(a+)+": 2}, "pissa"]


@pytest.fixture(scope="module", params=KINDS)
def adapter(request: pytest.FixtureRequest) -> tuple[dict[str, Tensor], dict[str, Any]]:
    kind, options = KINDS[request.param]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained(kind(**options, **FC), Path(folder), size=0.05)
        return saved(Path(folder))


def damaged(tensors: dict[str, Tensor], config: dict[str, Any], draw: random.Random) -> tuple[dict[str, Tensor], Any]:
    """One or two changes of the kind that a broken tool or an attacker makes."""
    tensors, config = dict(tensors), dict(config)
    for _ in range(draw.choice([1, 1, 2])):
        name = draw.choice(sorted(tensors))
        tensor = tensors[name]
        match draw.randrange(12):
            case 0:
                del tensors[name]
            case 1:
                tensors[name] = tensor[:0]
            case 2:
                tensors[name] = tensor.flatten()
            case 3:
                tensors[name] = tensor.unsqueeze(0)
            case 4:
                tensors[name] = torch.stack([tensor, tensor])
            case 5:
                tensors[name] = tensor.transpose(0, -1)
            case 6:
                tensors[name] = tensor * draw.choice([torch.nan, torch.inf, 1e30, -1e38, 0.0])
            case 7:
                tensors[name] = tensor.to(draw.choice([torch.int64, torch.bool, torch.float64, torch.float16]))
            case 8:
                tensors[name] = torch.tensor(1.0)
            case 9:
                owner, part = draw.choice(["up", "fc", "nothing", ""]), draw.choice([".weight", ".lora_A.weight", "."])
                tensors[owner + part] = tensor
            case 10:
                other = draw.choice(sorted(tensors))
                tensors[name], tensors[other] = tensors[other], tensor
            case _:
                config[draw.choice(sorted(config))] = draw.choice(VALUES)
    return tensors, config


def test_a_damaged_adapter_is_imported_or_refused_in_words(adapter: tuple[dict[str, Tensor], dict[str, Any]]) -> None:
    backbone = backbone_of(network())
    draw = random.Random(0)
    refused: list[str] = []
    for _ in range(40):
        tensors, config = damaged(*adapter, draw)
        try:
            convert(Source("peft", tensors, config), backbone, name="x")
        except LensmountError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert all(message.isprintable() and len(message) < 3000 for message in refused)
    assert backbone.changed() == []
