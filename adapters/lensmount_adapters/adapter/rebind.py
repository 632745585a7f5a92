"""Accept an adapter on its backbone's weights in another precision: a new file, which records the measured change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.file import METADATA_KEY, parse_adapter
from lensmount_adapters.adapter.header import Limits
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.adapter.merged import merged_module
from lensmount_adapters.adapter.precision import Rounding, rounding_between
from lensmount_adapters.adapter.trust_check import PREFIX, without_trust
from lensmount_adapters.backbone.model import Backbone

RECORD = "rebound"  # of the training record
INPUTS = 4


@dataclass(frozen=True, slots=True)
class Rebound:
    """A file for the backbone here. `change` is that of the logits on random inputs, relative to the largest."""

    data: bytes
    change: float


def rebound(data: bytes, backbone: Backbone, limits: Limits | None = None) -> Rebound | None:
    """The file for `backbone`, if it was made for the same weights in another precision. None if it fits as it is.

    The logits are computed with both weights if the more precise ones are here. If they are not, the weights here are
    moved by random amounts of the size of the rounding, which gives a change of the same size.
    Raises BackboneMismatch for any other weights, and other AdapterErrors as `admit` does.
    """
    file = parse_adapter(data, limits)
    manifest = file.manifest
    if backbone.fits(manifest.backbone):
        return None
    rounding = rounding_between(manifest, backbone)
    if rounding is None:
        admit(data, backbone, limits)  # raises the mismatch
        return None
    moved = without_trust(manifest.model_copy(update={"backbone": backbone.ref}))
    tensors = {name: tensor for name, tensor in file.tensors.items() if not name.startswith(PREFIX)}
    adapter = admit(_dump(moved, tensors), backbone, limits)
    change = _change(adapter, backbone, rounding)
    record: dict[str, Any] = {
        "backbone": manifest.backbone.model_dump(mode="json"),
        "precision": rounding.dtype,
        "change_of_logits": float(f"{change:.2g}"),
    }
    if manifest.trust is not None:
        record["trust_dropped"] = True
    moved = moved.model_copy(update={"training": manifest.training | {RECORD: record}})
    return Rebound(_dump(moved, tensors), change)


def note_of(manifest: Manifest) -> str | None:
    """What was accepted and what it changes, in one sentence; None for a file that was not rebound."""
    record = manifest.training.get(RECORD)
    if not isinstance(record, dict) or not isinstance(record.get("change_of_logits"), float):
        return None
    dropped = "; what its answers are worth is not known there" if record.get("trust_dropped") is True else ""
    return (
        f"accepted on the same weights in another precision ({str(record.get('precision'))[:20]}): "
        f"on random inputs the logits change by {record['change_of_logits']:.2g} of the largest{dropped}"
    )


def _dump(manifest: Manifest, tensors: Mapping[str, Tensor]) -> bytes:
    """The same tensors, byte for byte, with this manifest."""
    stored = {name: tensor.contiguous() for name, tensor in tensors.items()}
    data: bytes = safetensors.torch.save(stored, metadata={METADATA_KEY: manifest.dump()})
    return data


def _change(adapter: Adapter, backbone: Backbone, rounding: Rounding) -> float:
    draw = torch.Generator().manual_seed(0)
    dtype = rounding.torch_dtype

    def rounded(base: Tensor) -> Tensor:
        return base.to(dtype).float()

    def moved(base: Tensor) -> Tensor:
        return base * (1 + (torch.rand(base.shape, generator=draw) - 0.5) * torch.finfo(dtype).eps)

    inputs = torch.randn(INPUTS, *adapter.manifest.preprocessing.input_shape, generator=draw)
    here = _logits(adapter, merged_module(adapter, backbone), inputs)
    there = _logits(adapter, merged_module(adapter, backbone, moved if rounding.here else rounded), inputs)
    return float((here - there).abs().max() / here.abs().max().clamp(min=1e-6))


def _logits(adapter: Adapter, module: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = adapter.head(module(inputs).to(next(iter(adapter.head.parameters())).device))
    return logits
