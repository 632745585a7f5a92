"""Convolutions of volumes that train quickly on CPU: computed slice by slice in 2D and summed over the kernel's depth.

`conv3d(x, W)[d]` is the sum over i of `conv2d(x[d + i - k // 2], W[:, :, i])`. In the backward pass the 2D convolutions
are several times as fast, depthwise ones most of all. A slice of a kernel that is zero and not trained costs nothing;
most slices of an inflated backbone are of this kind. The values are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lensmount_adapters.fast_convolutions.mode import FastConvolution


class SlicewiseConv3d(FastConvolution):
    """While entered, a conv3d without stride or dilation along the depth is computed slice by slice.

    >>> with SlicewiseConv3d():                  # doctest: +SKIP
    ...     loss = model(volumes).sum()

    `enabled=False` changes nothing (GPUs have fast 3D kernels).
    """

    def __init__(self, enabled: bool = True) -> None:
        super().__init__(torch.conv3d, enabled)

    def compute(self, arguments: Mapping[str, Any]) -> Tensor | None:
        return _slicewise(**arguments) if _keeps_depth(arguments) else None


def _keeps_depth(arguments: Mapping[str, Any]) -> bool:
    """Whether the output has the input's slices: no stride, no dilation and full padding along the depth."""
    padding, depth = arguments.get("padding", 0), arguments["weight"].shape[2]
    same_depth = not isinstance(padding, str) and 2 * _triple(padding)[0] == depth - 1
    return same_depth and _triple(arguments.get("stride", 1))[0] == 1 == _triple(arguments.get("dilation", 1))[0]


def _slicewise(
    input: Tensor,  # noqa: A002  # torch's own name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """[N, C, D, H, W] to [N, C', D, H', W']."""
    count, _, slices = input.shape[:3]
    rows = input.transpose(1, 2)  # [N, D, C, H, W]
    reach = weight.shape[2] // 2
    padded = F.pad(rows, (0, 0, 0, 0, 0, 0, reach, reach)) if reach else rows
    geometry = (_triple(stride)[1:], _triple(padding)[1:], _triple(dilation)[1:], groups)
    total: Tensor | None = None
    for tap in _taps(weight):
        shifted = rows if tap == reach else padded[:, tap : tap + slices]
        flat = shifted.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        added_bias = bias if total is None else None  # the bias is added once
        y = torch.conv2d(flat, weight[:, :, tap], added_bias, *geometry)  # [N * D, C', H', W']
        total = y if total is None else total + y
    assert total is not None  # `_taps` returns at least one
    return total.reshape(count, slices, *total.shape[1:]).transpose(1, 2)


def _taps(weight: Tensor) -> list[int]:
    """Indices of the kernel's slices that are not zero or may be trained; always with the centre."""
    depth = weight.shape[2]
    if weight.requires_grad:
        return list(range(depth))
    return [tap for tap in range(depth) if tap == depth // 2 or bool(weight[:, :, tap].any())]


def _triple(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value,) * 3 if isinstance(value, int) else tuple(value)
