"""Strided grouped convolutions that train quickly in bfloat16 on CPU: computed with stride 1, then subsampled.

oneDNN has no fast backward pass for strided depthwise convolutions in bfloat16. One 5x5 layer of EfficientNet-Lite0
takes a third of the whole training step (0.36 of 1.05 s at batch 32, 224 pixels); computed this way it takes 0.01 s.
The values are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lensmount_adapters.fast_convolutions.mode import FastConvolution


class UnstridedDepthwise(FastConvolution):
    """While entered, a grouped conv2d that has a stride and needs gradients is computed with stride 1 and subsampled.

    >>> with UnstridedDepthwise():                  # doctest: +SKIP
    ...     loss = model(images).sum()

    `enabled=False` changes nothing (the backward pass in float32 is fast as it is).
    """

    def __init__(self, enabled: bool = True) -> None:
        super().__init__(torch.conv2d, enabled)

    def compute(self, arguments: Mapping[str, Any]) -> Tensor | None:
        down, across = _pair(arguments.get("stride", 1))
        if arguments.get("groups", 1) == 1 or down == across == 1 or not _needs_backward(arguments):
            return None
        return torch.conv2d(**{**arguments, "stride": 1})[..., ::down, ::across]


def _needs_backward(arguments: Mapping[str, Any]) -> bool:
    tensors: tuple[Tensor, Tensor] = (arguments["input"], arguments["weight"])
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
