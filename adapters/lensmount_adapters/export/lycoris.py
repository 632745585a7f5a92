"""A LyCORIS file, with kohya's names: low-rank and CP/Tucker factors as they are, everything else as differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors.torch
import timm
import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.merged import merged_tensors
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.kinds import Delta, LowRank, Tucker
from lensmount_adapters.export.target import GRAPHS, base_weights, cannot_hold, linear_head, write_description

PREFIX = "lycoris_"
WITH_FACTORS = (Layer.LINEAR, Layer.CONV)
WITH_DIFFERENCE = {Layer.LINEAR: ("diff", "diff_b"), Layer.CONV: ("diff", "diff_b"), Layer.NORM: ("w_norm", "b_norm")}


class Lycoris:
    """`lycoris.create_lycoris_from_weights(1.0, "DIR/NAME.safetensors", model)[0].merge_to(1.0)`, and head.safetensors.

    LyCORIS has no place for a head, so the linear head has a file of its own: `weight` and `bias`.
    """

    name = "lycoris"

    def write(self, adapter: Adapter, backbone: Backbone, folder: Path) -> list[str]:
        weight, bias = linear_head(adapter, self.name)
        _check_names(adapter.deltas, backbone)
        tensors, notes = _tensors(adapter, backbone)
        safetensors.torch.save_file(tensors, folder / f"{adapter.manifest.name}.safetensors")
        safetensors.torch.save_file({"weight": weight, "bias": bias}, folder / "head.safetensors")
        notes.append("head.safetensors holds the linear head, which has no place in a LyCORIS file")
        load = (
            "import safetensors.torch\nimport timm\nimport torch\nfrom lycoris import create_lycoris_from_weights\n\n"
            f"model = {_call(backbone.name)}.eval()\n{base_weights(adapter)}\n"
            f'network, _ = create_lycoris_from_weights(1.0, "{adapter.manifest.name}.safetensors", model)\n'
            "network.merge_to(1.0)\n"
            'head = safetensors.torch.load_file("head.safetensors")\n'
            "logits = torch.nn.functional.linear(model(images), **head)"
        )
        write_description(adapter, folder, load, notes)
        return notes


def _call(name: str) -> str:
    """The call that makes the backbone's network, as Python: timm's, or ours for a network that timm does not have."""
    network, _, side = name.partition("@")
    if not timm.is_model(network):
        return f"lensmount_adapters.load_backbone({name!r}, ...).module"
    size = f", img_size={side}" if side else ""
    return f"timm.create_model({network!r}, pretrained=True, num_classes=0{size})"


def _check_names(deltas: Iterable[Delta], backbone: Backbone) -> None:
    """Raise ExportError for a module whose name with "_" for "." is also another module's."""
    found: dict[str, str] = {}
    for path, _ in backbone.module.named_modules():
        other = found.setdefault(path.replace(".", "_"), path)
        if other != path and any(delta.target.module in (path, other) for delta in deltas):
            raise cannot_hold(
                "lycoris",
                f"the modules {other} and {path}, which have one name there",
                "different names",
                f"timm, or to {GRAPHS}",
            )


def _tensors(adapter: Adapter, backbone: Backbone) -> tuple[dict[str, Tensor], list[str]]:
    alphas = {module: factors.alpha for module, factors in adapter.manifest.modules.items()}
    by_module: dict[str, list[Delta]] = {}
    for delta in adapter.deltas:
        by_module.setdefault(delta.target.module, []).append(delta)
    tensors: dict[str, Tensor] = {}
    full: list[Delta] = []
    for path, together in by_module.items():
        first = together[0]
        if len(together) == 1 and isinstance(first, LowRank | Tucker) and first.target.layer in WITH_FACTORS:
            tensors |= _named(path, _factors(first, alphas[path]))
        else:
            full += together
    differences = _differences(full, adapter, backbone)
    dense = sorted({delta.target.module for delta in full if delta.rank is not None})
    notes = [f"{', '.join(dense)}: saved as full differences, because LyCORIS has no such factors"] if dense else []
    return tensors | differences, notes


def _factors(delta: LowRank | Tucker, alpha: float) -> dict[str, Tensor]:
    """The factors and alpha. In LyCORIS an alpha of 0 means the rank, so a factor becomes zero in its place."""
    shape = delta.target.shape
    if isinstance(delta, Tucker) and all(side == 1 for side in shape[2:]):
        delta = delta.folded()  # LyCORIS makes no lora_mid for a kernel of one pixel
    parts = {"lora_up.weight": delta.B if alpha else torch.zeros_like(delta.B)}
    if isinstance(delta, Tucker):
        parts |= {"lora_mid.weight": delta.mid, "lora_down.weight": delta.A}
    else:
        parts |= {"lora_down.weight": delta.A.reshape(-1, *shape[1:])}
    return parts | {"alpha": torch.tensor(float(alpha or delta.rank))}


def _differences(deltas: list[Delta], adapter: Adapter, backbone: Backbone) -> dict[str, Tensor]:
    """What is added to the weight and the bias of each module. Raises ExportError for what LyCORIS does not change."""
    names = [delta.target.name for delta in deltas]
    for delta in deltas:
        _check_target(delta.target, backbone.targets)
    bases = backbone.base(delta.target.name for delta in adapter.deltas)
    merged = merged_tensors(adapter, bases, backbone.device)
    tensors: dict[str, Tensor] = {}
    for path, layer in {delta.target.module: delta.target.layer for delta in deltas}.items():
        for part, word in zip(("weight", "bias"), WITH_DIFFERENCE[layer], strict=True):
            name = f"{path}.{part}"
            if name in names:
                tensors |= _named(path, {word: merged[name] - bases[name].float().cpu()})
            elif name in backbone.targets:
                tensors |= _named(path, {word: torch.zeros(backbone.targets[name].shape)})
    return tensors


def _check_target(target: Target, targets: Mapping[str, Target]) -> None:
    instead = f"timm, or to {GRAPHS}"
    known = target.layer in WITH_DIFFERENCE and target.name in (f"{target.module}.weight", f"{target.module}.bias")
    if not known:
        found = f"a delta of {target.name} ({target.layer.replace('_', ' ')})"
        raise cannot_hold("lycoris", found, "one of a linear layer, convolution, LayerNorm or GroupNorm", instead)
    if target.layer is Layer.NORM and f"{target.module}.bias" not in targets:
        raise cannot_hold("lycoris", f"a delta of {target.name}, a norm without a bias", "a norm with one", instead)


def _named(path: str, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parts of a module under kohya's names, in float32 on the CPU."""
    prefix = PREFIX + path.replace(".", "_")
    return {f"{prefix}.{part}": tensor.detach().float().cpu().contiguous() for part, tensor in parts.items()}
