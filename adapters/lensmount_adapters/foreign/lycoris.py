"""Files of LyCORIS and of kohya's scripts: which method a module's tensors were written by, and their deltas.

| part that tells | method | delta |
|---|---|---|
| `lora_up.weight` | LoRA, LoCon, DyLoRA; CP/Tucker with `lora_mid` | low rank |
| `hada_w1_a` | LoHa | low rank r * r; with `hada_t1` full |
| `lokr_w1`, `lokr_w1_a` | LoKr | low rank where w2 is a product, otherwise full |
| `a1.weight` | GLoRA | low rank 2 r; with a larger kernel full |
| `oft_blocks` | diagonal OFT, BOFT | full |
| `on_input` | IA3 | a factor for each row or column |
| `diff`, `diff_b`, `w_norm` | full, norm | full |
| `dora_scale` and those of any method | DoRA | a factor for each row or column |
| `lambda_layer` | T-LoRA | low rank 2 r |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import AdapterUnsupported
from lensmount_adapters.foreign.lycoris_names import grouped
from lensmount_adapters.foreign.room import Room
from lensmount_adapters.formulas.lycoris_dora import DoRA
from lensmount_adapters.formulas.lycoris_low_rank import GLoRA, LoCon, LoHa, LoKr
from lensmount_adapters.formulas.lycoris_orthogonal import OFT
from lensmount_adapters.formulas.lycoris_tlora import TLoRA
from lensmount_adapters.formulas.lycoris_whole import IA3, Full, Norm
from lensmount_adapters.formulas.module import ForeignModule, Method

METHODS: Mapping[str, Method] = {
    "lora_up.weight": LoCon(),
    "hada_w1_a": LoHa(),
    "lokr_w1": LoKr(),
    "lokr_w1_a": LoKr(),
    "a1.weight": GLoRA(),
    "oft_blocks": OFT(),
    "on_input": IA3(),
    "diff": Full(),
    "diff_b": Full(),
    "w_norm": Norm(),
    "lambda_layer": TLoRA(),
}
"""A part that only this method writes, and the method."""

READS: Mapping[str, frozenset[str]] = {
    method.name: method.reads for method in (LoCon, LoHa, LoKr, GLoRA, OFT, IA3, Full, Norm, TLoRA)
}
PARTS = frozenset[str]().union(*READS.values(), {"dora_scale"})


@dataclass(frozen=True, slots=True)
class Read:
    """One module of a file: the method's name, and its deltas as `Method.read` returns them."""

    method: str
    deltas: Mapping[str, Tensor]


def is_lycoris(names: Iterable[str]) -> bool:
    """Return True if the names of a file's tensors end like those of LyCORIS or kohya's scripts."""
    telling = tuple(f".{part}" for part in (*METHODS, "lora.up.weight", "lora_linear_layer.up.weight"))
    return any(name.endswith(telling) for name in names)


def read_lycoris(tensors: Mapping[str, Tensor], backbone: Backbone, max_bytes: int | None = None) -> dict[str, Read]:
    """Return path of a module -> its method and deltas, for a whole file.

    Deltas that need more than `max_bytes` in float16 raise AdapterTooLarge before all of them are computed. Raises
    AdapterInvalid or AdapterUnsupported with the module and the reason; nothing is left out.
    """
    paths = [name.removesuffix(".weight") for name in backbone.targets if name.endswith(".weight")]
    modules = grouped(tensors, PARTS, paths)
    room = Room(max_bytes)
    read: dict[str, Read] = {}
    for path, parts in modules.items():
        module = foreign_module(backbone, path, parts)
        method = method_of(module)
        read[path] = Read(method.name, method.read(module))
        room.take(read[path].deltas)
    return read


def foreign_module(backbone: Backbone, path: str, parts: Mapping[str, Tensor]) -> ForeignModule:
    """The tensors of a file for the module `path`, with that module's own weights."""
    names = [name for name in (f"{path}.weight", f"{path}.bias") if name in backbone.targets]
    base = {name: tensor.detach().to("cpu", torch.float64) for name, tensor in backbone.base(names).items()}
    return ForeignModule(
        path, parts, base[f"{path}.weight"], base.get(f"{path}.bias"), backbone.targets[f"{path}.weight"].groups
    )


def method_of(module: ForeignModule) -> Method:
    """The method that wrote the module's tensors. Raises AdapterUnsupported if none is known, or if more is there."""
    method = next((method for part, method in METHODS.items() if part in module.parts), None)
    expected = "parts such as lora_up.weight and lora_down.weight" if method is None else f"those of {method.name}"
    reads = frozenset[str]() if method is None else READS[method.name] | {"dora_scale"}
    if method is None or (unknown := sorted(module.parts.keys() - reads)):
        unknown = sorted(module.parts) if method is None else unknown
        raise AdapterUnsupported(
            f"{module.name}: found {', '.join(unknown)[:200]}, expected {expected}. Fix: merge it with the tool that "
            "wrote it, save the whole network, and run `lensmount adapters extract`"
        )
    return DoRA(method) if "dora_scale" in module.parts else method


def other_padding(backbone: Backbone, paths: Iterable[str]) -> str:
    """A warning about strided convolutions that pad as TensorFlow does, or "".

    LyCORIS, and PEFT's LoHa and LoKr, compute their part of such a layer (timm's Conv2dSame) with its static padding of
    0. Their live network then gives other values than its own merged weights, which are what is imported.
    """
    modules = dict(backbone.module.named_modules())
    strided = [path for path in paths if _pads_like_tensorflow(modules[path])]
    if not strided:
        return ""
    return (
        f"{', '.join(strided[:4])}{' and others' if len(strided) > 4 else ''}: these strided convolutions pad as "
        "TensorFlow does, and LyCORIS trains its part of them without this padding. The imported weights are those "
        "that LyCORIS merges; its own live network differs from these. Compare the accuracy before you rely on it"
    )


def _pads_like_tensorflow(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv2dSame" and max(getattr(module, "stride", (1,))) > 1
