"""The adapter file: safetensors with the manifest in its metadata; its SHA-256 is its digest, its identity."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lensmount_adapters.adapter.header import Limits, read_header
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.atomic import write_atomic
from lensmount_adapters.errors import AdapterInvalid, AdapterMalformed

METADATA_KEY = "lensmount"  # the only one: the library orders several keys at random, and the digest would move


@dataclass(frozen=True, slots=True, eq=False)
class AdapterFile:
    """One adapter file, read and well formed, not yet judged against a backbone."""

    digest: str
    size_bytes: int
    manifest: Manifest
    tensors: Mapping[str, Tensor]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def parse_adapter(data: bytes, limits: Limits | None = None) -> AdapterFile:
    """Read an adapter file held in memory. Raises AdapterError; nothing in the file can run code."""
    header = read_header(data, limits or Limits())
    if METADATA_KEY not in header.metadata:
        raise AdapterInvalid(
            f"found a safetensors file without the metadata key {METADATA_KEY!r}, expected Lensmount's manifest there. "
            "Fix: train with `lensmount train` or write it with lensmount_adapters.write_adapter",
            code="manifest_missing",
        )
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, AttributeError, KeyError) as error:
        raise AdapterMalformed(f"the safetensors library refuses the file: {error}") from error
    if {name: list(tensor.shape) for name, tensor in tensors.items()} != {
        name: list(entry.shape) for name, entry in header.entries.items()
    }:
        raise AdapterMalformed("the safetensors library reads another set of tensors than the header holds")
    return AdapterFile(digest_of(data), len(data), Manifest.parse(header.metadata[METADATA_KEY]), tensors)


def dump_adapter(manifest: Manifest, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float16) -> bytes:
    """The bytes of an adapter file; equal contents give equal bytes, so equal digests.

    BatchNorm statistics and cosine scales stay in float32, everything else is stored as `dtype`.
    """
    stored = {
        name: tensor.detach().to("cpu", torch.float32 if _needs_range(name) else dtype).contiguous()
        for name, tensor in tensors.items()
    }
    data: bytes = safetensors.torch.save(stored, metadata={METADATA_KEY: manifest.dump()})
    return data


def write_adapter(
    path: Path, manifest: Manifest, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float16
) -> str:
    """Write an adapter file atomically and return its digest."""
    data = dump_adapter(manifest, tensors, dtype)
    write_atomic(path, data)
    return digest_of(data)


def _needs_range(name: str) -> bool:
    return name.endswith(("running_var.delta", "running_mean.delta", "running_var", "running_mean", "logit_scale"))
