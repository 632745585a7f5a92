"""The adapter file: safetensors with the manifest in its metadata. Its SHA-256 digest identifies it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lensmount_adapters.adapter.header import Limits, read_header
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.adapter.rounding import rounded
from lensmount_adapters.adapter.schema import check_version, version_needed
from lensmount_adapters.adapter.trust import UNSEALED
from lensmount_adapters.adapter.trust_check import sealed
from lensmount_adapters.atomic import write_atomic
from lensmount_adapters.errors import AdapterInvalid, AdapterMalformed

METADATA_KEY = "lensmount"  # the only key: the library orders several keys at random, which would change the digest


@dataclass(frozen=True, slots=True, eq=False)
class AdapterFile:
    """An adapter file that was read and is well formed, but not yet checked against a backbone."""

    digest: str
    size_bytes: int
    manifest: Manifest
    tensors: Mapping[str, Tensor]


def digest_of(data: bytes) -> str:
    """The digest of an adapter file: "sha256:" and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def parse_adapter(data: bytes, limits: Limits | None = None) -> AdapterFile:
    """Read the bytes of an adapter file. Raises AdapterError. Nothing in the file can run code."""
    header = read_header(data, limits or Limits())
    if METADATA_KEY not in header.metadata:
        raise AdapterInvalid(
            f"found a safetensors file without the metadata key {METADATA_KEY!r}, expected Lensmount's manifest in it. "
            "Fix: train with `lensmount train` or write it with lensmount_adapters.write_adapter",
            code="manifest_missing",
        )
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, AttributeError, KeyError) as error:
        raise AdapterMalformed(
            f"the safetensors library refuses the file: {error}. Fix: write it with that library"
        ) from error
    if {name: list(tensor.shape) for name, tensor in tensors.items()} != {
        name: list(entry.shape) for name, entry in header.entries.items()
    }:
        raise AdapterMalformed(
            "the safetensors library reads other tensors than the header lists. Fix: write the file with that library"
        )
    manifest = Manifest.parse(header.metadata[METADATA_KEY])
    check_version(manifest, tensors)
    return AdapterFile(digest_of(data), len(data), manifest, tensors)


def dump_adapter(manifest: Manifest, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float16) -> bytes:
    """The bytes of an adapter file. Equal contents give equal bytes and so equal digests.

    Tensors are stored as `dtype`. A tensor that would lose more than `dtype` rounds off (its eps: 1e-3 of float16)
    stays in float32, and the manifest says so under `training.kept_float32`. BatchNorm statistics and scales are always
    float32. The schema version is the lowest that holds the contents. A new trust block is tied to them. Raises
    AdapterInvalid (`unsupported_dtype`) for what the file cannot hold.
    """
    stored, kept = rounded(tensors, dtype)
    if manifest.trust is not None and manifest.trust.of == UNSEALED:
        manifest = sealed(manifest, stored)
    changed: dict[str, Any] = {"schema_version": version_needed(manifest, stored)}
    if kept.errors:
        changed["training"] = {**manifest.training, "kept_float32": kept.text}
    written = manifest.model_copy(update=changed)
    data: bytes = safetensors.torch.save(stored, metadata={METADATA_KEY: written.dump()})
    return data


def write_adapter(
    path: Path, manifest: Manifest, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float16
) -> str:
    """Write an adapter file atomically and return its digest."""
    data = dump_adapter(manifest, tensors, dtype)
    write_atomic(path, data)
    return digest_of(data)
