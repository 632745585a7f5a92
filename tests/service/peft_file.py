"""An adapter as PEFT writes it, drawn without PEFT, whose import takes seconds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save

from lensmount_adapters import Backbone

if TYPE_CHECKING:
    from tests.service.conftest import Zip


def foreign(backbone: Backbone, zipped: Zip) -> bytes:
    """An adapter as PEFT writes it: LoRA on one layer, and a head of two classes."""
    chance = torch.Generator().manual_seed(0)
    outputs, inputs, *kernel = backbone.targets["layer4.0.conv2.weight"].shape
    sizes = {
        "layer4.0.conv2.lora_A.weight": (2, inputs, *kernel),
        "layer4.0.conv2.lora_B.weight": (outputs, 2, 1, 1),
        "fc.weight": (2, backbone.feature_dim),
        "fc.bias": (2,),
    }
    tensors = {f"base_model.model.{name}": torch.randn(size, generator=chance) / 4 for name, size in sizes.items()}
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["layer4.0.conv2"]}
    config |= {"modules_to_save": ["fc"], "bias": "none"}
    return zipped({"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": save(tensors)})
