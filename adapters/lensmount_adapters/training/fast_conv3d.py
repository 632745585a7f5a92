"""Convolutions of volumes that train quickly on CPU: slice by slice in two dimensions, summed over the kernel's depth.

`conv3d(x, W)[d]` is the sum over i of `conv2d(x[d + i - k // 2], W[:, :, i])`. Backward, and depthwise most of all, the
two-dimensional convolutions are several times as fast, and a slice of a kernel that is zero and not trained, as most
are in an inflated backbone, costs nothing. The values are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


class SlicewiseConv3d(TorchFunctionMode):
    """While entered, a conv3d without stride or dilation along the depth is computed slice by slice.

    >>> with SlicewiseConv3d():                  # doctest: +SKIP
    ...     loss = model(volumes).sum()

    `enabled=False` leaves everything as it is (GPUs have fast three-dimensional kernels).
    """

    def __init__(self, enabled: bool = True) -> None:
        super().__init__()
        self._enabled = enabled

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv3d and self._enabled:
            call = dict(zip(_ARGUMENTS, args, strict=False)) | dict(kwargs or {})
            if _is_slicewise(call):
                return _slicewise(**call)
        return func(*args, **(kwargs or {}))


def _is_slicewise(call: Mapping[str, Any]) -> bool:
    padding, depth = call.get("padding", 0), call["weight"].shape[2]
    same_depth = not isinstance(padding, str) and 2 * _triple(padding)[0] == depth - 1
    return same_depth and _triple(call.get("stride", 1))[0] == 1 == _triple(call.get("dilation", 1))[0]


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
        own = bias if total is None else None
        y = torch.conv2d(flat, weight[:, :, tap], own, *geometry)  # [N * D, C', H', W']
        total = y if total is None else total + y
    assert total is not None  # `_taps` gives one at least
    return total.reshape(count, slices, *total.shape[1:]).transpose(1, 2)


def _taps(weight: Tensor) -> list[int]:
    """The slices of the kernel that do something, or may learn to; the centre in any case."""
    depth = weight.shape[2]
    if weight.requires_grad:
        return list(range(depth))
    return [tap for tap in range(depth) if tap == depth // 2 or bool(weight[:, :, tap].any())]


def _triple(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value,) * 3 if isinstance(value, int) else tuple(value)
