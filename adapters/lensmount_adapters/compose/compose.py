"""A new adapter from several on one backbone: their changes merged, with the head of one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.admission import HEAD_ONLY, admit
from lensmount_adapters.adapter.file import dump_adapter
from lensmount_adapters.adapter.header import Limits
from lensmount_adapters.adapter.heads import head_tensors
from lensmount_adapters.adapter.manifest import Factors, Manifest
from lensmount_adapters.adapter.precision import record_of
from lensmount_adapters.adapter.trust_check import without_trust
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.changes.budget import Budget, Ranks
from lensmount_adapters.changes.changes import Changes
from lensmount_adapters.compose.merging import Linear, Merging, merged_change
from lensmount_adapters.compose.stacking import change, weighted_sum
from lensmount_adapters.delta.kinds import Delta
from lensmount_adapters.errors import AdapterInvalid

METHOD = "composed"
_OF_THE_HEAD = ("split", "data", "weights")  # of its training record: where its held-out images and its base are


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One adapter and its weight in the composition; `name` is what the user calls it."""

    name: str
    weight: float
    adapter: Adapter


@dataclass(frozen=True, slots=True, eq=False)
class Composed:
    """The bytes of the new adapter file, and the adapter as admitted.

    `error` is |D - stored| / |D| over all matrices and kernels, where D is the merged change in float64. `notes` are
    sentences for the user.
    """

    data: bytes
    adapter: Adapter
    error: float
    notes: tuple[str, ...]


def compose(
    sources: Sequence[Source],
    backbone: Backbone,
    name: str,
    *,
    head: int = 0,
    merging: Merging | None = None,
    budget: Budget | None = None,
    dtype: torch.dtype = torch.float16,
) -> Composed:
    """Merge the changes of the sources; answer with the head, labels and preprocessing of `sources[head]`.

    `budget` None stores the merged change exactly: as stacked factors where the sum has a low rank, otherwise whole.
    Raises AdapterInvalid if the merged weights are not valid.
    """
    merging = merging or Linear()
    by_target = _by_target(sources, backbone)
    base = backbone.base(by_target)
    merged = {target: _merged(merging, target, deltas, base[target]) for target, deltas in by_target.items()}
    _check_variances(merged, base, sources)
    of_head = sources[head].adapter
    manifest = _manifest(sources, of_head.manifest, name, merging, record_of(backbone))
    own_head = head_tensors(of_head.head)

    def file(tensors: Mapping[str, Tensor], modules: Mapping[str, Factors]) -> bytes:
        update = {"modules": dict(modules), "method": METHOD if tensors else HEAD_ONLY}
        return dump_adapter(manifest.model_copy(update=update), {**tensors, **own_head}, dtype)

    changes = Changes.of(backbone, {target: D for target, D in merged.items() if D.any()})
    if budget is None:
        data = file(*_exact(merging, by_target, merged, base))
    else:

        def size_of(ranks: Ranks) -> int:
            return len(file(*changes.stored(ranks)))

        data = file(*changes.stored(budget.ranks(changes.spectra, size_of, dtype.itemsize)))
    adapter = admit(data, backbone, Limits(max_file_bytes=max(len(data), Limits().max_file_bytes)))
    return Composed(data, adapter, _error(adapter, changes, base), _notes(sources, of_head))


def _by_target(sources: Sequence[Source], backbone: Backbone) -> dict[str, list[tuple[Delta, float]]]:
    """Every changed tensor with its deltas and their weights, in the order of the backbone."""
    found: dict[str, list[tuple[Delta, float]]] = {}
    for source in sources:
        for delta in source.adapter.deltas:
            if source.weight:
                found.setdefault(delta.target.name, []).append((delta, source.weight))
    return {target: found[target] for target in backbone.targets if target in found}


def _merged(merging: Merging, target: str, deltas: Sequence[tuple[Delta, float]], base: Tensor) -> Tensor:
    changes = torch.stack([change(delta, base) for delta, _ in deltas])
    weights = torch.tensor([weight for _, weight in deltas], dtype=torch.float64)
    return merged_change(merging, target, changes, weights)


def _exact(
    merging: Merging,
    by_target: Mapping[str, Sequence[tuple[Delta, float]]],
    merged: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Factors]]:
    tensors: dict[str, Tensor] = {}
    modules: dict[str, Factors] = {}
    for target, deltas in by_target.items():
        if not isinstance(merging, Linear):
            tensors[f"{target}.delta"] = merged[target]
            continue
        stored = weighted_sum(deltas, base[target])
        tensors |= stored.tensors
        if stored.factors is not None:
            modules[deltas[0][0].target.path] = stored.factors
    return tensors, modules


def _manifest(
    sources: Sequence[Source], of_head: Manifest, name: str, merging: Merging, record: Mapping[str, Any]
) -> Manifest:
    training: dict[str, Any] = {key: of_head.training[key] for key in _OF_THE_HEAD if key in of_head.training}
    training |= record
    training["composed"] = {
        "method": merging.name,
        "density": getattr(merging, "density", None),
        "seed": getattr(merging, "seed", None),
        "head": of_head.name,
        "adapters": [
            {"name": source.adapter.manifest.name, "digest": source.adapter.digest, "weight": source.weight}
            for source in sources
        ],
    }
    recipe = " + ".join(f"{source.weight:g} x {source.adapter.manifest.name}" for source in sources)
    licences = dict.fromkeys(source.adapter.manifest.license for source in sources if source.adapter.manifest.license)
    return without_trust(of_head).model_copy(
        update={
            "name": name,
            "training": training,
            "license": " and ".join(licences),
            "description": f"{recipe}, merged by {merging.name}, with the head of {of_head.name}",
        }
    )


def _check_variances(merged: Mapping[str, Tensor], base: Mapping[str, Tensor], sources: Sequence[Source]) -> None:
    for target, D in merged.items():
        if target.endswith("running_var") and (base[target].double().cpu() + D < 0).any():
            total = sum(source.weight for source in sources)
            raise AdapterInvalid(
                f"{target}: found a merged variance below zero with weights that add up to {total:g}, expected weights "
                "of 0 or more that add up to at most 1. Fix: divide each weight by their sum"
            )


def _error(adapter: Adapter, changes: Changes, base: Mapping[str, Tensor]) -> float:
    kept = {delta.target.name: change(delta, base[delta.target.name]) for delta in adapter.deltas}
    return changes.error(tuple(changes.layer(name, kept.get(name)) for name in changes.changed))


def _notes(sources: Sequence[Source], of_head: Adapter) -> tuple[str, ...]:
    others = [s.name for s in sources if s.adapter.manifest.preprocessing != of_head.manifest.preprocessing]
    notes = []
    if others:
        notes.append(
            f"{', '.join(others)}: trained with other preprocessing than {of_head.manifest.name}, and the new adapter "
            "has that of the latter"
        )
    if of_head.trust is not None:
        notes.append(
            f"{of_head.manifest.name}: its calibration and thresholds are left out, since they were measured without "
            "the other adapters"
        )
    return tuple(notes)
