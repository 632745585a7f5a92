"""Layers whose weights depend on the sample: the arithmetic of a mixed batch, as functions of tensors.

Each sample uses one slot of a table. `rows` [N] has its number; `mask` [N, slots * rank] is 1 in the columns of the
sample's slot. A sample's result does not depend on the contents of other slots: they are never multiplied by zero,
which would turn infinity into a NaN. The only exception is a concatenated B. All functions can be traced with free
batch and image sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lensmount_adapters.graph.fold import CONVOLUTIONS

_PLAIN: dict[int, Callable[..., Tensor]] = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


def slot_rows(mask: Tensor, slots: int) -> Tensor:
    """[N] from a mask [N, slots * rank]."""
    return mask.reshape(mask.shape[0], slots, -1)[:, :, 0].argmax(1)


# y + B_i (A_i x): A [slots * rank, in, *k]


def add_concatenated(
    y: Tensor, x: Tensor, A: Tensor, B: Tensor, mask: Tensor, kind: str, geometry: Mapping[str, Any]
) -> Tensor:
    """A convolution's low-rank term with all slots side by side, B [out, slots * rank, *1]."""
    hidden = CONVOLUTIONS[kind](x, A, None, **geometry)  # [N, slots * rank, *]
    kept = mask.reshape(mask.shape[0], mask.shape[1], *[1] * (hidden.ndim - 2)) > 0
    return y + _PLAIN[hidden.ndim](torch.where(kept, hidden, hidden.new_zeros(())), B)


def add_linear(y: Tensor, x: Tensor, A: Tensor, B: Tensor, rows: Tensor, slots: int) -> Tensor:
    """A linear layer's low-rank term, B [slots, out, rank]; x [N, *, in], or [N * windows, *, in] in attention."""
    tokens = x.reshape(rows.shape[0], -1, x.shape[-1])  # [N, L, in]
    hidden = tokens @ _down(A, rows, slots)  # [N, L, rank]
    return y + (hidden @ _up(B, rows)).reshape(y.shape)


def add_pointwise(
    y: Tensor, x: Tensor, A: Tensor, B: Tensor, rows: Tensor, slots: int, stride: Sequence[int]
) -> Tensor:
    """The low-rank term of a convolution with kernel size 1, B [slots, out, rank, *1]."""
    for dim, step in enumerate(stride, start=2):
        if step > 1:
            x = x[(slice(None),) * dim + (slice(None, None, step),)]
    hidden = x.flatten(2).transpose(1, 2) @ _down(A, rows, slots)  # [N, L, rank]
    return _add_tokens(y, hidden, _up(B, rows))


def add_convolution(
    y: Tensor, x: Tensor, A: Tensor, B: Tensor, rows: Tensor, slots: int, kind: str, geometry: Mapping[str, Any]
) -> Tensor:
    """The low-rank term of any convolution without groups, B [slots, out, rank, *1]."""
    kernels = A.reshape(slots, -1, *A.shape[1:]).index_select(0, rows)  # [N, rank, in, *k]
    hidden = _convolved(x, kernels, kind, geometry)  # [N, rank, *]
    return _add_tokens(y, hidden.flatten(2).transpose(1, 2), _up(B, rows))


class LowRankOps(NamedTuple):
    """The functions that add the low-rank term of a layer whose factors are looked up."""

    linear: Callable[..., Tensor]
    pointwise: Callable[..., Tensor]
    convolution: Callable[..., Tensor]


TORCH = LowRankOps(add_linear, add_pointwise, add_convolution)


def _down(A: Tensor, rows: Tensor, slots: int) -> Tensor:
    return A.reshape(slots, A.shape[0] // slots, -1).index_select(0, rows).transpose(1, 2)  # [N, in, rank]


def _up(B: Tensor, rows: Tensor) -> Tensor:
    return B.index_select(0, rows).flatten(2).transpose(1, 2)  # [N, rank, out]


def _add_tokens(y: Tensor, hidden: Tensor, up: Tensor) -> Tensor:
    """Add `hidden @ up`. A y [N, out, *] whose channels are last in memory is not copied for it."""
    return y + (hidden @ up).transpose(1, 2).reshape(y.shape)


# full kernels [slots, out, in/g * k], for layers with groups, whose kernels are small


def convolve_each(
    x: Tensor, kernels: Tensor, rows: Tensor, shape: Sequence[int], kind: str, geometry: Mapping[str, Any]
) -> Tensor:
    """A convolution with groups: each sample with the kernels of its slot."""
    chosen = kernels.index_select(0, rows)
    return _convolved(x, chosen.reshape(chosen.shape[0], *shape), kind, geometry)


def convolve_in_turn(
    x: Tensor, kernels: Tensor, mask: Tensor, shape: Sequence[int], kind: str, geometry: Mapping[str, Any]
) -> Tensor:
    """The same, slot by slot: all samples with the slot's kernels, of which each sample keeps its own result."""
    slots = kernels.shape[0]
    uses = mask.reshape(mask.shape[0], slots, -1)[:, :, 0] > 0  # [N, slots]
    y = CONVOLUTIONS[kind](x, kernels[0].reshape(tuple(shape)), None, **geometry)
    for slot in range(1, slots):
        of_slot = CONVOLUTIONS[kind](x, kernels[slot].reshape(tuple(shape)), None, **geometry)
        y = torch.where(uses[:, slot].reshape(-1, *[1] * (y.ndim - 1)), of_slot, y)
    return y


def _convolved(x: Tensor, kernels: Tensor, kind: str, geometry: Mapping[str, Any]) -> Tensor:
    """Each sample with its own kernels [N, out, in/g, *k]: the batch becomes one sample with N times as many groups."""
    samples = x.shape[0]
    groups = samples * int(geometry.get("groups", 1))
    joined = x.reshape(1, -1, *x.shape[2:])
    y = CONVOLUTIONS[kind](joined, kernels.flatten(0, 1), None, **{**geometry, "groups": groups})
    return y.reshape(samples, -1, *y.shape[2:])


# vectors [slots, channels]; y [N, channels, *] if `dim` is 1, otherwise [N, *, channels] or [N * windows, *, channels]


def scale(y: Tensor, gains: Tensor, rows: Tensor, dim: int) -> Tensor:
    """Multiply by each sample's gains."""
    gain, y_i = _vectors(gains, y, rows, dim)
    return (y_i * gain).reshape(y.shape)


def shift(y: Tensor, shifts: Tensor, rows: Tensor, dim: int) -> Tensor:
    """Add each sample's shifts."""
    added, y_i = _vectors(shifts, y, rows, dim)
    return (y_i + added).reshape(y.shape)


def _vectors(table: Tensor, y: Tensor, rows: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Each sample's vector, and y, in shapes that can be broadcast."""
    vectors = table.index_select(0, rows)  # [N, channels]
    if dim == 1:
        return vectors.reshape(*vectors.shape, *[1] * (y.ndim - 2)), y
    return vectors.unsqueeze(1), y.reshape(vectors.shape[0], -1, vectors.shape[1])


def add_bias(y: Tensor, bias: Tensor) -> Tensor:
    """A bias [channels] that all samples share; y [N, channels, *]."""
    return y + bias.reshape(-1, *[1] * (y.ndim - 2))
