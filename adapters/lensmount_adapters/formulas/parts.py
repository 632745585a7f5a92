"""The tensors that a foreign file holds for one module: read one by one, checked against the module, in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lensmount_adapters.adapter.schema import MAX_RANK_OF_VERSION_1
from lensmount_adapters.errors import AdapterInvalid, AdapterUnsupported
from lensmount_adapters.formulas.module import ForeignModule

MIXED_RANK = MAX_RANK_OF_VERSION_1  # up to it, factors stay even if their product is smaller: mixed batches need them


def take(module: ForeignModule, part: str, *shape: int) -> Tensor:
    """Return the tensor `part` in float64 as `shape`, in which one size may be -1, for any.

    Tools differ in how they store a factor: [r, in], [r, in, 1, 1], or [r, in * 9] for [r, in, 3, 3]. So sizes of 1 are
    passed over, and of the others the first and their product must agree. Raises AdapterInvalid if the part is
    missing, does not fit, or is not finite.
    """
    if part not in module.parts:
        raise AdapterInvalid(
            f"{module.name}: found {', '.join(sorted(module.parts))[:200]}, expected {part} as well. "
            "Fix: import the complete file",
            code="adapter_incomplete",
        )
    tensor = module.parts[part].detach().to("cpu", torch.float64)
    if not _fits(tuple(tensor.shape), shape):
        raise AdapterInvalid(
            f"{module.name}: found {part} of shape {list(tensor.shape)}, expected {_words(shape)} for the "
            f"backbone's weight {list(module.weight.shape)}. Fix: import it for the backbone that it was trained on",
            code="adapter_shape_mismatch",
        )
    if not torch.isfinite(tensor).all():
        raise AdapterInvalid(
            f"{module.name}: found NaN or infinity in {part}, expected finite values. Fix: import an earlier "
            "checkpoint of the training",
            code="adapter_not_finite",
        )
    return tensor.reshape(shape)


def matrix(module: ForeignModule, part: str) -> Tensor:
    """Return the part as a matrix of any size."""
    tensor = module.parts.get(part)
    rows = tensor.shape[0] if tensor is not None and tensor.ndim == 2 else 0  # no tensor fits [0, any]
    return take(module, part, rows, -1)


def sizes(module: ForeignModule) -> tuple[int, int, tuple[int, ...]]:
    """Return out, in / groups and the kernel's sizes of the module's weight. Raises AdapterUnsupported for a vector."""
    if module.weight.ndim < 2:
        raise AdapterUnsupported(
            f"{module.name}: found {', '.join(sorted(module.parts))[:200]} for a weight of shape "
            f"{list(module.weight.shape)}, expected a linear layer or a convolution. Fix: leave this module out"
        )
    out, inputs, *kernel = module.weight.shape
    return out, inputs, tuple(kernel)


def factors(module: ForeignModule, B: Tensor, A: Tensor) -> dict[str, Tensor]:
    """The deltas that hold `B @ A`, where B is [out, r] and A is [r, in / groups * kernel].

    They are the two factors, unless the rank is above 256 and the product is smaller than they are.
    """
    out, inputs, kernel = sizes(module)
    rank = B.shape[1]
    if rank > MIXED_RANK and B.numel() + A.numel() >= module.weight.numel():
        return {"weight.delta": (B @ A).reshape(module.weight.shape)}
    ones = [1] * len(kernel)
    return {"lora_A.weight": A.reshape(rank, inputs, *kernel), "lora_B.weight": B.reshape(out, rank, *ones)}


def merged(deltas: Mapping[str, Tensor], weight: Tensor) -> Tensor:
    """Return the merged weight `row_scale * (W + delta) * column_scale` of one module, in float64.

    `deltas` are named as `Method.read` returns them; `weight` is [out, in / groups, *kernel] or [out, in].
    """
    live = weight.double()
    if "weight.delta" in deltas:
        live = live + deltas["weight.delta"]
    if "lora_B.weight" in deltas:
        A, B = deltas["lora_A.weight"].double(), deltas["lora_B.weight"].double().flatten(1)
        if "lora_mid.weight" in deltas:
            A = torch.einsum("pqk,qi->pik", deltas["lora_mid.weight"].double().flatten(2), A.flatten(1))
        live = live + (B @ A.flatten(1)).reshape(weight.shape)
    if "weight.row_scale" in deltas:
        live = live * deltas["weight.row_scale"].reshape(-1, *[1] * (weight.ndim - 1))
    if "weight.column_scale" in deltas:
        live = live * deltas["weight.column_scale"].reshape(1, -1, *[1] * (weight.ndim - 2))
    return live


def _fits(found: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    first, known = expected[0], math.prod(size for size in expected if size >= 0)
    count = math.prod(found)
    if not count or not known or count % known or (-1 not in expected and count != known):
        return False
    if first == -1:
        return True
    without_ones = [size for size in found if size != 1]
    return first in (1, *found[:1], *without_ones[:1])


def _words(shape: tuple[int, ...]) -> str:
    return f"[{', '.join('any' if size < 0 else str(size) for size in shape)}]"
