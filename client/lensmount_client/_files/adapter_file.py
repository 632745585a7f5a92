"""Inspect an adapter file without torch: only the header of the safetensors format is parsed."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lensmount_client._errors import InvalidInput
from lensmount_client._files.paths import read_file

MANIFEST_KEY = "lensmount"


@dataclass(frozen=True)
class LocalAdapter:
    """`read_adapter_file("malaria.safetensors").manifest["labels"]`."""

    digest: str
    size_bytes: int
    parameters: int  # numbers in all tensors
    manifest: Mapping[str, Any]


def read_adapter_file(path: str | Path) -> LocalAdapter:
    """Read an adapter file. Raises InvalidInput if it is not one. Only the server checks its values."""
    content = read_file(path)
    header = _header(content, path)
    metadata = header.pop("__metadata__", {})
    try:
        manifest = json.loads(metadata[MANIFEST_KEY])
        parameters = sum(math.prod(tensor["shape"]) for tensor in header.values())
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{path}: found a safetensors file without a lensmount manifest, expected an adapter of `lensmount train`"
        ) from error
    if not isinstance(manifest, dict):
        raise InvalidInput(f"{path}: found a manifest of type {type(manifest).__name__}, expected an object")
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return LocalAdapter(digest, len(content), parameters, manifest)


def _header(content: bytes, path: str | Path) -> dict[str, Any]:
    """The format: a length n (8 bytes, little endian), n bytes of JSON, then the tensors."""
    try:
        (length,) = struct.unpack_from("<Q", content)
        if length > len(content) - 8:
            raise ValueError(f"its header claims {length} bytes")
        header = json.loads(content[8 : 8 + length])
    except (struct.error, ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: not a safetensors file ({error})") from error
    if not isinstance(header, dict):
        raise InvalidInput(f"{path}: not a safetensors file (its header is not an object)")
    return header
