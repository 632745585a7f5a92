"""Files of PEFT: which method wrote a file, and the deltas of each module, from the tensors and adapter_config.json."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import AdapterInvalid, AdapterUnsupported
from lensmount_adapters.foreign.head import given_head
from lensmount_adapters.foreign.names import HEAD, Names, Place, suggestion
from lensmount_adapters.foreign.room import Room
from lensmount_adapters.formulas.fused import joined, third_of
from lensmount_adapters.formulas.module import ForeignModule, Method
from lensmount_adapters.formulas.parts import merged
from lensmount_adapters.formulas.peft_config import for_module, number
from lensmount_adapters.formulas.peft_low_rank import MERGE, LoRA, vera_projections
from lensmount_adapters.formulas.peft_methods import method_of
from lensmount_adapters.formulas.peft_products import HiRA
from lensmount_adapters.formulas.peft_shared import AS_LORA
from lensmount_adapters.formulas.peft_whole import Whole

_IN_ATTENTION = (
    ".base_layer.out_proj.lora_B"  # of torch.nn.MultiheadAttention; see Multihead.merge in PEFT 0.13 to 0.21
)
_STATISTICS = ("running_mean", "running_var")
_UNDILATED = (LoRA, HiRA)  # PEFT computes their part of a convolution without its dilation


@dataclass(slots=True)
class Reading:
    """What a file holds for one backbone: deltas by module, head, and what was done with each of its tensors."""

    method: str
    deltas: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    head: dict[str, Tensor] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    ignored: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_peft(
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    backbone: Backbone,
    head: Mapping[str, Tensor] | None = None,
    max_bytes: int | None = None,
) -> Reading:
    """Read a file of PEFT for the backbone. `head` is the classifier that training started from, if it is known.

    Deltas that need more than `max_bytes` in float16 raise AdapterTooLarge before all of them are computed.

    Raises AdapterUnsupported for a method that cannot be imported, AdapterInvalid (`adapter_unknown_target`) with all
    tensors that belong to no module, and what the methods raise.
    """
    method = method_of(config)
    reading, room = Reading(method.name), Room(max_bytes)
    names = Names.of(backbone)
    groups, shared = _grouped(tensors, names, reading)
    reading.notes += _notes(names)
    if (HEAD, None) in groups:
        started = given_head(head, backbone) if head else {}
        _read_head(groups.pop((HEAD, None)), started, config, method, reading)
    if shared and not any(held.parts for held in groups.values()):
        raise AdapterUnsupported(
            f"found {method.name} of PEFT with {', '.join(sorted(shared))[:120]} alone, which all layers share, "
            f"expected tensors that say what each layer takes of it. {AS_LORA}"
        )
    drawn, times = {"VeRA": ("vera", 1), "PVeRA": ("pvera", 2)}.get(method.name, ("", 0))
    if drawn and f"{drawn}_A" not in shared:
        weights = [backbone.tensors[f"{path}.weight"] for path, _ in groups if f"{path}.weight" in backbone.targets]
        matrices = [weight for weight in weights if weight.ndim == 2]
        shared[f"{drawn}_A"], shared[f"{drawn}_B"] = vera_projections(config, matrices, times)
        reading.notes.append("the shared projections are not in the file; they are drawn again from its seed")
    layers = dict(backbone.module.named_modules())
    places = _places(groups, layers)
    read: dict[str, dict[int | None, dict[str, Tensor]]] = defaultdict(dict)
    for (path, third), held in groups.items():
        own = {**for_module(config, held.theirs), "module": held.theirs, "place": places.get((path, third))}
        if any(_IN_ATTENTION in name for name in held.names):
            own["lora_alpha"] = 2 * number(own, "lora_alpha", 8)
            reading.notes.append(
                f"{path}: PEFT adds its change of an attention's out_proj twice, and so does the import"
            )
        layer = layers.get(path, nn.Identity())
        read[path][third] = _read(backbone, path, third, held, (method, own, shared, layer), reading)
        room.take(read[path][third])
    for path, thirds in read.items():
        if None in thirds and len(thirds) > 1:
            raise AdapterInvalid(
                f"{path}: found changes of the whole layer and of its thirds for queries, keys or values, expected one "
                "of the two. Fix: save the adapter again with the tool that wrote it"
            )
        whole = thirds[None] if None in thirds else joined(thirds, _base(backbone, f"{path}.weight"))
        if whole:
            reading.deltas[path] = whole
        else:
            reading.ignored |= dict.fromkeys(reading.sources[path], "equal to the backbone's own")
    return reading


def _places(
    groups: Mapping[tuple[str, int | None], _Held], layers: Mapping[str, nn.Module]
) -> dict[tuple[str, int | None], tuple[int, int]]:
    """Which of the adapted layers each one is, in the order of the network, and how many there are.

    Nothing is returned if thirds of a layer are adapted: other libraries order queries, keys and values differently.
    """
    adapted = {path for (path, _), held in groups.items() if held.parts}
    if any(third is not None for _, third in groups):
        return {}
    ordered = [path for path in layers if path in adapted]
    return {(path, None): (number, len(ordered)) for number, path in enumerate(ordered)}


@dataclass(slots=True)
class _Held:
    """The tensors of one module: the method's parts, whole tensors, and the tool's copies of the base."""

    theirs: str
    parts: dict[str, Tensor] = field(default_factory=dict)
    whole: dict[str, Tensor] = field(default_factory=dict)
    base: dict[str, Tensor] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)


def _grouped(
    tensors: Mapping[str, Tensor], names: Names, reading: Reading
) -> tuple[dict[tuple[str, int | None], _Held], dict[str, Tensor]]:
    groups: dict[tuple[str, int | None], _Held] = {}
    shared: dict[str, Tensor] = {}
    unknown: dict[str, str] = {}
    for name, tensor in sorted(tensors.items(), key=lambda item: (".modules_to_save." not in item[0], item[0])):
        if reason := _ignorable(name):
            reading.ignored[name] = reason
            continue
        place = names.place(name)
        if isinstance(place, str):
            unknown[name] = place
        elif not place.path:
            shared[place.part] = tensor
            reading.sources[""].append(name)
        else:
            held = groups.setdefault((place.path, place.third), _Held(place.theirs))
            if _slot(held, place, tensor):
                unknown[name] = f"{place.path}, which another tensor of the file changes as well"
            held.names.append(name)
            reading.sources[place.path].append(name)
    if len(names.adapters) > 1:
        listed = ", ".join(sorted(names.adapters))[:200]
        raise AdapterUnsupported(
            f"found {len(names.adapters)} adapters in one file ({listed}), expected one. Fix: save each into its own "
            "folder with save_pretrained(path, selected_adapters=[...]), and import them one by one"
        )
    if unknown:
        raise AdapterInvalid(
            f"found {len(unknown)} tensors that belong to no module: {suggestion(unknown)}. Expected names of this "
            "backbone's modules, of the same network in torchvision or transformers, or a known prefix before them. "
            "Fix: serve the backbone that the adapter was trained on",
            code="adapter_unknown_target",
        )
    return groups, shared


def _ignorable(name: str) -> str:
    """Why a tensor says nothing about the weights; "" for one that does."""
    if ".original_module." in f".{name}":
        return "the module as it was before training, which modules_to_save replaces"
    if name.endswith("num_batches_tracked"):
        return "a counter of batches, which does not change what the network computes"
    if name.rpartition(".")[2] == "n_averaged" or ".ranknum." in name:
        return "a counter of the training"
    if ".lora_velora_embed" in name or ".lora_monteclora_sampler." in name:
        return "it takes part in training alone"
    return ""


def _slot(held: _Held, place: Place, tensor: Tensor) -> bool:
    """Put the tensor in its place. Return True if there is another one already.

    Whole tensors are saved twice with bias="all": `fc.modules_to_save.bias` comes first, and `fc.bias` replaces it.
    """
    if place.base and place.part == "weight":
        slots = held.base
    else:
        slots = held.whole if place.part in ("", "weight", "bias", *_STATISTICS) else held.parts
    taken = slots is held.parts and place.part in slots
    slots[place.part] = tensor
    return taken


def _read_head(
    held: _Held, started: Mapping[str, Tensor], config: Mapping[str, Any], method: Method, reading: Reading
) -> None:
    """Take the trained classifier. One that is itself adapted needs the classifier that training started from."""
    known = {**(started if held.parts else {}), **held.base, **held.whole}
    weight, bias = known.get("weight"), known.get("bias")
    if weight is None or weight.ndim != 2:
        raise AdapterUnsupported(
            f"{held.theirs}: found {method.name} of the classifier itself, and not the classifier that it starts from, "
            "which only the trained network has. Expected the classifier as a whole. Fix: train with "
            f"modules_to_save=[{held.theirs!r}], or put the first classifier next to the adapter as head.safetensors"
        )
    weight = weight.double()
    if held.parts:
        module = ForeignModule(held.theirs, held.parts, weight, None if bias is None else bias.double())
        deltas = method.read(_with(module, for_module(config, held.theirs), {}))
        weight = merged(deltas, weight)
        bias = bias.double() + deltas["bias.delta"] if bias is not None and "bias.delta" in deltas else bias
    if bias is None:
        reading.notes.append(f"{held.theirs}: the file holds no bias of the classifier; it is 0")
    reading.head = {"weight": weight, "bias": weight.new_zeros(len(weight)) if bias is None else bias.double()}


def _read(
    backbone: Backbone,
    path: str,
    third: int | None,
    held: _Held,
    how: tuple[Method, Mapping[str, Any], Mapping[str, Tensor], nn.Module],
    reading: Reading,
) -> dict[str, Tensor]:
    """The deltas of one module, or of one third of a fused one."""
    method, config, shared, layer = how
    if f"{path}.weight" not in backbone.targets:  # a parameter that no module owns
        if held.whole.keys() != {""} or held.parts:
            raise AdapterUnsupported(
                f"{path}: found {', '.join(held.names)[:200]}, expected the trained parameter as a whole. {MERGE}"
            )
        return {"delta": _difference(held.whole[""], _base(backbone, path), path)}
    module = _module(backbone, path, third, held)
    deltas: dict[str, Tensor] = {}
    if held.parts:
        _check_parts(path, held, method)
        _check_layer(path, layer, method)
        start = held.base.get("weight")
        if start is not None:
            config = {**config, "init_lora_weights": True}
        deltas = method.read(_with(module, config, shared, start))
        if start is not None and not torch.equal(start.double(), module.weight):
            total = merged(deltas, start.double()) - module.weight
            bias = {name: tensor for name, tensor in deltas.items() if name.startswith("bias.")}
            deltas = {"weight.delta": total, **bias}
            reading.notes.append(f"{path}: the file's own copy of the base weight differs; the difference is added")
    whole = Whole().read(_with(module, {}, {}, None, held.whole))
    changed = {name: tensor for name, tensor in whole.items() if bool(tensor.any())}
    statistics = {
        f"{name}.delta": _difference(held.whole[name], _base(backbone, f"{path}.{name}"), f"{path}.{name}")
        for name in _STATISTICS
        if name in held.whole
    }
    return _sum(deltas, changed, path) | {name: delta for name, delta in statistics.items() if bool(delta.any())}


def _sum(deltas: dict[str, Tensor], whole: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """A trained bias and a bias that the method adds are added; two changes of one weight have no meaning."""
    both = dict(deltas)
    for name, tensor in whole.items():
        if name == "weight.delta" and any(key.startswith(("weight.", "lora_")) for key in deltas):
            raise AdapterInvalid(
                f"{path}: found both a trained weight and a change of it, expected one of them. Fix: save the adapter "
                "again with save_pretrained"
            )
        both[name] = both[name] + tensor if name in both else tensor
    return both


def _module(backbone: Backbone, path: str, third: int | None, held: _Held) -> ForeignModule:
    weight = _base(backbone, f"{path}.weight")
    bias = _base(backbone, f"{path}.bias") if f"{path}.bias" in backbone.targets else None
    groups = backbone.targets[f"{path}.weight"].groups
    if third is not None:
        weight, bias = third_of(weight, third), None if bias is None else third_of(bias, third)
    return ForeignModule(path, held.parts, weight, bias, groups)


def _with(
    module: ForeignModule,
    config: Mapping[str, Any],
    shared: Mapping[str, Tensor],
    weight: Tensor | None = None,
    parts: Mapping[str, Tensor] | None = None,
) -> ForeignModule:
    return ForeignModule(
        module.name,
        module.parts if parts is None else parts,
        module.weight if weight is None else weight.double(),
        module.bias,
        module.groups,
        config,
        shared,
    )


def _check_parts(path: str, held: _Held, method: Method) -> None:
    reads: frozenset[str] = getattr(method, "reads", frozenset())
    if unread := sorted(held.parts.keys() - reads):
        raise AdapterUnsupported(
            f"{path}: found {', '.join(unread)[:200]}, expected only {', '.join(sorted(reads))} of {method.name}. "
            + MERGE
        )


def _check_layer(path: str, layer: nn.Module, method: Method) -> None:
    dilation = getattr(layer, "dilation", 1)
    if isinstance(method, _UNDILATED) and max(dilation if isinstance(dilation, tuple) else (dilation,)) > 1:
        raise AdapterUnsupported(
            f"{path}: found {method.name} for a convolution with dilation {dilation}. PEFT computes its part without "
            "the dilation, expected a change of the weight, which has it. Fix: leave this module out and train again"
        )


def _difference(tensor: Tensor, base: Tensor, name: str) -> Tensor:
    if tensor.shape != base.shape or not torch.isfinite(tensor).all():
        raise AdapterInvalid(
            f"{name}: found a tensor of shape {list(tensor.shape)}, expected finite values of shape "
            f"{list(base.shape)}. Fix: import it for the backbone that it was trained on",
            code="adapter_shape_mismatch",
        )
    return tensor.double() - base


def _base(backbone: Backbone, name: str) -> Tensor:
    return backbone.base([name])[name].detach().to("cpu", torch.float64)


def _notes(names: Names) -> list[str]:
    notes = [f"stripped the prefix {prefix!r} from names" for prefix in sorted(names.prefixes)]
    if names.translated:
        theirs, ours = next(iter(names.translated.items()))
        notes.append(f"{len(names.translated)} modules have other names here, such as {theirs}, which is {ours}")
    return notes
