"""Strided grouped convolutions that train quickly in bfloat16 on CPU: stride 1, then every second pixel.

oneDNN has no fast backward for strided depthwise convolutions in bfloat16: one 5x5 layer of EfficientNet-Lite0 takes a
third of the whole training step (0.36 of 1.05 s at batch 32, 224 pixels); this way it takes 0.01 s.
The values are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


class UnstridedDepthwise(TorchFunctionMode):
    """While entered, a differentiated grouped conv2d with a stride is computed with stride 1 and subsampled.

    >>> with UnstridedDepthwise():                  # doctest: +SKIP
    ...     loss = model(images).sum()

    `enabled=False` leaves everything as it is (float32 has a fast backward of its own).
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
        if func is not torch.conv2d or not self._enabled:
            return func(*args, **(kwargs or {}))
        call = dict(zip(_ARGUMENTS, args, strict=False)) | dict(kwargs or {})
        down, across = _pair(call.get("stride", 1))
        if call.get("groups", 1) == 1 or down == across == 1 or not _needs_backward(call):
            return torch.conv2d(*args, **(kwargs or {}))
        return torch.conv2d(**call | {"stride": 1})[..., ::down, ::across]


def _needs_backward(call: Mapping[str, Any]) -> bool:
    tensors: tuple[Tensor, Tensor] = (call["input"], call["weight"])
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
