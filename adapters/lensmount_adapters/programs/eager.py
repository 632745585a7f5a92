"""The eager executor: torch runs operation by operation. The other executors are compared with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from lensmount_adapters.programs.cast import Cast


class Eager:
    """`Eager("cpu", torch.bfloat16).compile(module, inputs, weights, key="")`: torch runs operation by operation."""

    name = "eager"

    def __init__(self, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self._device = torch.device(device)

    def compile(
        self, module: fx.GraphModule, inputs: Sequence[Tensor], weights: Sequence[Tensor], key: str
    ) -> TorchCompiled:
        cast = Cast(module, weights, self._device, self.dtype)
        return TorchCompiled(cast, cast.module)


@dataclass(frozen=True, slots=True, eq=False)
class TorchCompiled:
    """A module that torch runs by `call`, which is the cast module or a compiled form of it.

    With `copies`, `call` gets copies of its inputs and weights.
    """

    cast: Cast
    call: Callable[..., Tensor]
    copies: bool = False

    @torch.inference_mode()
    def run(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        return self.call(*self.inputs(inputs), *self.cast.weights(weights, copied=self.copies))

    @torch.inference_mode()
    def bind(self, weights: Sequence[Tensor], shapes: Sequence[Sequence[int]] = ()) -> TorchProgram:
        return TorchProgram(self, self.cast.weights(weights, copied=True), self.cast.nbytes(weights))

    def inputs(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return self.cast.inputs(inputs, copied=self.copies)


@dataclass(frozen=True, slots=True, eq=False)
class TorchProgram:
    compiled: TorchCompiled
    weights: tuple[Tensor, ...]
    nbytes: int

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Tensor:
        return self.compiled.call(*self.compiled.inputs(inputs), *self.weights)
