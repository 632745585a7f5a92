"""The two versions of the adapter file: which one a file needs, and that a file of version 1 holds nothing newer.

| version | holds |
|---|---|
| 1 | low-rank and CP/Tucker factors up to rank 256 with an alpha above 0; full deltas of biases, norms and statistics |
| 2 | also full deltas of any tensor, row and column scales, any rank, an alpha of 0 or below, a trust block, titles |

A file is written as version 1 whenever it can be, so that servers of before version 2 read it. Files of version 1 are
read for ever, by the rules of version 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.errors import AdapterError, AdapterInvalid, AdapterTooLarge

MAX_RANK_OF_VERSION_1 = 256
_VECTORS_OF_VERSION_1 = ("weight", "bias", "running_mean", "running_var")
_FIX = "Fix: write the file with lensmount_adapters.write_adapter, which sets schema_version to 2 where it is needed"


def version_needed(manifest: Manifest, tensors: Mapping[str, Tensor]) -> Literal[1, 2]:
    """The lowest version that holds these contents."""
    return 1 if _newer(manifest, tensors) is None else 2


def check_version(manifest: Manifest, tensors: Mapping[str, Tensor]) -> None:
    """Raise the error of version 1 if a file that declares it holds something newer."""
    if manifest.schema_version == 1 and (error := _newer(manifest, tensors)) is not None:
        raise error


def _newer(manifest: Manifest, tensors: Mapping[str, Tensor]) -> AdapterError | None:
    """The refusal by version 1 of the first thing that only version 2 holds; None if there is no such thing."""
    for module, factors in manifest.modules.items():
        if factors.alpha <= 0:
            return AdapterInvalid(
                f"manifest, modules.{module[:120]}.alpha: found {factors.alpha:g}, expected more than 0 in a file of "
                f"schema version 1. {_FIX}",
                code="manifest_invalid",
            )
        if factors.rank > MAX_RANK_OF_VERSION_1:
            return AdapterTooLarge(
                f"{module[:120]}: found rank {factors.rank}, expected at most {MAX_RANK_OF_VERSION_1} in a file of "
                f"schema version 1. {_FIX}",
                code="rank_too_large",
            )
    for name, what in (("trust", "a trust block"), ("titles", "titles of labels")):
        if getattr(manifest, name):
            return AdapterInvalid(
                f"manifest, {name}: found {what}, expected none in a file of schema version 1. {_FIX}",
                code="manifest_invalid",
            )
    for name, tensor in tensors.items():
        if what := _newer_tensor(name, tensor):
            return AdapterInvalid(
                f"{name[:120]}: found {what}, expected only factors and full deltas of vectors in a file of schema "
                f"version 1. {_FIX}",
                code="adapter_unknown_target",
            )
    return None


def _newer_tensor(name: str, tensor: Tensor) -> str:
    """What only version 2 holds, in words; "" for a tensor that version 1 holds too."""
    owner, _, part = name.rpartition(".")
    if name.startswith("head."):
        return ""
    if part in ("row_scale", "column_scale"):
        return f"a {part.replace('_', ' ')}"
    if part == "delta" and tensor.ndim != 1:
        return f"a full delta of shape {list(tensor.shape)}"
    if part == "delta" and owner.rpartition(".")[2] not in _VECTORS_OF_VERSION_1:
        return "a full delta of a parameter that is neither a weight, a bias nor a statistic"
    return ""
