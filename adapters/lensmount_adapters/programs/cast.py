"""A module and its base weights in the precision, memory layout and device that they are computed in."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, fx, nn


def channels_last(x: Tensor) -> Tensor:
    """[N, C, H, W] and [N, C, D, H, W] with the channels last in memory; other shapes unchanged."""
    layout = _layout(x)
    return x if layout is torch.preserve_format else x.contiguous(memory_format=layout)


class Casting(Protocol):
    """What a program needs to know of a module: how its inputs and weights have to be."""

    device: torch.device

    @property
    def module(self) -> nn.Module: ...

    def inputs(self, inputs: Sequence[Tensor]) -> list[Tensor]: ...

    def weights(self, weights: Sequence[Tensor], *, copied: bool = False) -> tuple[Tensor, ...]: ...


class Cast:
    """`cast.module(*cast.inputs(images), *cast.weights(weights))`: a copy of the module, its inputs and its weights.

    [N, C, (D,) H, W] and convolution weights have their channels last. Nothing is shared with `module`, and no tensor
    passed as an input is ever written to, whatever the module does in place. Call it under torch.inference_mode.
    """

    def __init__(
        self, module: fx.GraphModule, base: Sequence[Tensor], device: torch.device, dtype: torch.dtype
    ) -> None:
        self.device = device
        self.dtype = dtype
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.module.to(device=device, dtype=dtype)
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            tensor.data = channels_last(tensor.data)
        for layer in self.module.modules():
            if getattr(layer, "inplace", False):
                layer.inplace = False  # type: ignore[assignment]  # nn.Module types attributes as tensors
        nodes = self.module.graph.nodes
        self._writes = any(
            node.op == "call_method" and str(node.target).endswith("_") for node in nodes
        )  # nfnet's mul_
        self._base = tuple(base)
        with torch.inference_mode():
            self._base_cast = tuple(self._cast(tensor, copied=True) for tensor in base)

    def inputs(self, inputs: Sequence[Tensor], *, copied: bool = False) -> list[Tensor]:
        """Cast the inputs. With `copied`, the results never share memory with them."""
        return [self._cast(x, copied=copied or self._writes) for x in inputs]

    def weights(self, weights: Sequence[Tensor], *, copied: bool = False) -> tuple[Tensor, ...]:
        """Cast the weights. Those that are the base's own tensors were cast in the constructor."""
        return tuple(
            base_cast if weight is base else self._cast(weight, copied=copied)
            for weight, base, base_cast in zip(weights, self._base, self._base_cast, strict=True)
        )

    def nbytes(self, weights: Sequence[Tensor]) -> int:
        return sum(weight.numel() * self.dtype.itemsize for weight in weights)

    def _cast(self, x: Tensor, *, copied: bool) -> Tensor:
        return x.detach().to(self.device, self.dtype, copy=copied, memory_format=_layout(x))


def _layout(x: Tensor) -> torch.memory_format:
    return {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim, torch.preserve_format)
