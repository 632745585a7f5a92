"""A directory that PEFT loads: low-rank factors as LoRA, every other tensor with its new value."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.backbone.target import Layer
from lensmount_adapters.delta.kinds import Delta, LowRank, Tucker
from lensmount_adapters.export.classifier import classified
from lensmount_adapters.export.target import base_weights, write_description

PREFIX = "base_model.model."
NO_LORA = "dummy-target-modules"  # PEFT's own word for a LoRA without targets


@dataclass(slots=True)
class _Contents:
    """What goes into the two files: factors by module, modules that PEFT saves whole, and single tensors.

    PEFT wraps the modules whose names end with a name in `modules_to_save`. Single tensors are loaded into the base
    model itself, as PEFT does with biases: those of modules whose name ends another's, and those of no single layer.
    """

    factors: dict[str, LowRank] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)
    single: list[str] = field(default_factory=list)


class Peft:
    """`peft.PeftModel.from_pretrained(timm.create_model("resnet34", num_classes=2, ...), "DIR")`."""

    name = "peft"

    def write(self, adapter: Adapter, backbone: Backbone, folder: Path) -> list[str]:
        network = classified(adapter, backbone, self.name)
        modules = dict(network.model.named_modules())
        contents, notes = _sorted_by_form(adapter.deltas, modules)
        tensors = _tensors(contents, network.model, network.classifier)
        safetensors.torch.save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        alphas = {module: factors.alpha for module, factors in adapter.manifest.modules.items()}
        to_save = [path for path in (*contents.whole, network.classifier) if _is_layer(path, modules)]
        config = _config(contents, alphas, to_save)
        kind = type(network.model)
        config["auto_mapping"] = {"base_model_class": kind.__name__, "parent_library": kind.__module__}
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        load = (
            "import peft\nimport timm\n\n"
            f"base = {network.call(pretrained=True)}\n{base_weights(adapter)}\n"
            f"model = peft.PeftModel.from_pretrained(base, {f'{adapter.manifest.name}-peft'!r}).eval()"
        )
        write_description(adapter, folder, load, notes)
        return notes


def _sorted_by_form(deltas: Sequence[Delta], modules: dict[str, nn.Module]) -> tuple[_Contents, list[str]]:
    """Sort the deltas by the form in which PEFT stores them, and say what is not stored as it is."""
    contents = _Contents()
    rest: dict[str, list[Delta]] = {}
    for delta in deltas:
        lora = _as_lora(delta, modules[delta.target.module])
        if lora is not None:
            contents.factors[delta.target.module] = lora
        else:
            rest.setdefault(delta.target.module, []).append(delta)
    for path, together in rest.items():
        names = [delta.target.name for delta in together]
        if path in contents.factors or names == [f"{path}.bias"] or not _is_layer(path, modules):
            contents.single += names
        else:
            contents.whole.append(path)
    merged = [delta.target.module for delta in deltas if delta.rank is not None]
    merged = [path for path in merged if path not in contents.factors]
    if not merged:
        return contents, []
    why = "saved as merged weights, because PEFT's LoRA has no factors for such a layer"
    return contents, [f"{', '.join(merged)}: {why}"]


def _is_layer(path: str, modules: dict[str, nn.Module]) -> bool:
    """True for a module that PEFT can wrap alone: all its tensors are its own, and its name ends no other's."""
    if any(other != path and other.endswith(path) for other in modules):
        return False
    return all("." not in name for name in modules[path].state_dict())


def _as_lora(delta: Delta, module: nn.Module) -> LowRank | None:
    """The delta as PEFT's LoRA computes it, or None: PEFT mixes groups of a convolution and ignores dilation."""
    lora = delta.folded() if isinstance(delta, Tucker) else delta
    dilated = any(step != 1 for step in getattr(module, "dilation", ()))
    if not isinstance(lora, LowRank) or lora.target.groups > 1 or dilated:
        return None
    return lora if lora.target.layer in (Layer.LINEAR, Layer.CONV) else None


def _tensors(contents: _Contents, model: nn.Module, classifier: str) -> dict[str, Tensor]:
    """The tensors of adapter_model.safetensors, in float32: factors, and values of the merged `model`."""
    state = model.state_dict()
    tensors: dict[str, Tensor] = {}
    for path, lora in contents.factors.items():
        tensors |= {f"{path}.lora_A.weight": lora.A.reshape(-1, *lora.target.shape[1:])}
        tensors |= {f"{path}.lora_B.weight": lora.B}
    for name in contents.single:
        path, _, part = name.rpartition(".")
        tensors[f"{path}.base_layer.{part}" if path in contents.factors else name] = state[name]
    for path in (*contents.whole, classifier):
        tensors |= {name: tensor for name, tensor in state.items() if name.startswith(f"{path}.")}
    return {
        PREFIX + name: (tensor.float() if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in tensors.items()
    }


def _config(contents: _Contents, alphas: dict[str, float], whole: list[str]) -> dict[str, Any]:
    """The contents of adapter_config.json. Names become patterns that match one module each."""
    ranks = {path: lora.rank for path, lora in contents.factors.items()}
    used = Counter((ranks[path], alphas[path]) for path in ranks).most_common(1)
    rank, alpha = used[0][0] if used else (1, 1.0)
    biases = [name.removesuffix(".bias") for name in contents.single if name.endswith(".bias")]
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {f"^{re.escape(path)}": found for path, found in ranks.items() if found != rank},
        "alpha_pattern": {f"^{re.escape(path)}": alphas[path] for path in ranks if alphas[path] != alpha},
        "target_modules": "|".join(map(re.escape, ranks)) or NO_LORA,
        "modules_to_save": whole,
        "bias": "none" if not biases else "lora_only" if set(biases) <= ranks.keys() else "all",
        "lora_dropout": 0.0,
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
    }
