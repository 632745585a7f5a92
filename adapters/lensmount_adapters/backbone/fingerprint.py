"""The identity of a backbone: its name and the SHA-256 over its tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated

import torch
from pydantic import (
    StringConstraints,
)
from torch import Tensor, nn

from lensmount_adapters.strict import Strict


def fingerprint_of(module: nn.Module) -> str:
    """Return the SHA-256 over name, dtype, shape and bytes of every floating-point tensor, before any cast."""
    return fingerprint_of_tensors(float_tensors(module))


def fingerprint_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the fingerprint of a module with these floating-point tensors."""
    hasher = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        hasher.update(f"{name} {tensor.dtype} {list(tensor.shape)} {tensor_digest(tensor)}\n".encode())
    return f"sha256:{hasher.hexdigest()}"


def tensor_digest(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's bytes."""
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(raw.numpy().data).hexdigest()


def resident_digest(tensor: Tensor) -> str:
    """A digest that tells whether a tensor is still what it was, computed where it lies.

    On a CPU it is the SHA-256. Of a tensor on a GPU only two numbers of 64 bits come to the host: the sum of its words,
    and their sum weighted by their places, both modulo 2**64. They are compared with those at the start, so they find
    faults, not attacks; a single changed word always changes the first.
    """
    return tensor_digest(tensor) if tensor.device.type == "cpu" else _checksum(tensor)


def _checksum(tensor: Tensor) -> str:
    flat = tensor.detach().contiguous().reshape(-1)
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
    words = flat.view(width).to(torch.int64)
    places = torch.arange(1, len(words) + 1, device=words.device)
    total, weighted = torch.stack([words.sum(), (words * places).sum()]).tolist()
    return f"sum:{total}:{weighted}"


def nothing() -> None:
    """What is done between two tensors unless a caller says otherwise."""


def differing(
    tensors: Mapping[str, Tensor], digests: Mapping[str, str], between: Callable[[], None] = nothing
) -> list[str]:
    """Return the names of the tensors that no longer have their digest. `between` is called after each tensor."""
    found = []
    for name, tensor in list(tensors.items()):  # a list, because `between` may add tensors
        if resident_digest(tensor) != digests[name]:
            found.append(name)
        between()
    return found


def float_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the floating-point tensors of the state dict by name."""
    return {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}


Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class BackboneRef(Strict):
    """The backbone an adapter was made for: its timm name and its fingerprint."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    fingerprint: Digest
