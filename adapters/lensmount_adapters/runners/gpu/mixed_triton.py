"""The low-rank terms of mixed batches on a CUDA GPU: one launch per layer instead of four (kernels/mixed_low_rank.py).

What the kernel does not compute, convolutions of volumes and padding that depends on the size, torch computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from lensmount_adapters.runners.mixed_ops import TORCH, LowRankOps, add_convolution


def ops_for(device: torch.device) -> LowRankOps:
    """Those of Triton on a CUDA GPU that has it, otherwise those of torch."""
    return TRITON if device.type == "cuda" and find_spec("triton") is not None else TORCH


def add_linear(y: Tensor, x: Tensor, A: Tensor, B: Tensor, rows: Tensor, slots: int) -> Tensor:
    """As runners/mixed_ops.py has it: tokens are the positions of an image that is one pixel wide."""
    samples = rows.shape[0]
    tokens, before = (t.reshape(samples, -1, t.shape[-1]).transpose(1, 2).unsqueeze(3) for t in (x, y))
    added = _add(before, tokens, A.view(slots, -1, A.shape[1], 1, 1), B, rows)  # [N, out, L, 1]
    return added.squeeze(3).transpose(1, 2).reshape(y.shape)


def add_pointwise(
    y: Tensor, x: Tensor, A: Tensor, B: Tensor, rows: Tensor, slots: int, stride: Sequence[int]
) -> Tensor:
    """As runners/mixed_ops.py has it."""
    if y.ndim != 4:
        return TORCH.pointwise(y, x, A, B, rows, slots, stride)
    return _add(y, x, _by_slot(A, slots), B, rows, {"stride": tuple(stride)})


def add_convolution_of_images(
    y: Tensor, x: Tensor, A: Tensor, B: Tensor, rows: Tensor, slots: int, kind: str, geometry: Mapping[str, Any]
) -> Tensor:
    """As runners/mixed_ops.py has it."""
    pairs = {name: _pair(geometry[name]) for name in ("stride", "padding", "dilation") if name in geometry}
    if kind != "Conv2d" or None in pairs.values():
        return add_convolution(y, x, A, B, rows, slots, kind, geometry)
    return _add(y, x, _by_slot(A, slots), B, rows, pairs)


TRITON = LowRankOps(add_linear, add_pointwise, add_convolution_of_images)


def _add(y: Tensor, x: Tensor, A: Tensor, B: Tensor, rows: Tensor, geometry: Mapping[str, Any] | None = None) -> Tensor:
    from lensmount_adapters.kernels.mixed_low_rank import Geometry, add_low_rank  # Triton is no requirement

    return add_low_rank(y, x, A, B.flatten(2), rows, Geometry(**(geometry or {})))


def _by_slot(A: Tensor, slots: int) -> Tensor:
    """[slots * r, in, *k] as [slots, r, in, *k], without a copy."""
    by_slot: Tensor = A.unflatten(0, (slots, A.shape[0] // slots))  # type: ignore[no-untyped-call]  # torch's
    return by_slot


def _pair(value: object) -> tuple[int, int] | None:
    """One number for rows and one for columns; None for words, such as "same"."""
    match value:
        case int():
            return value, value
        case (int(rows), int(columns)):
            return rows, columns
    return None
