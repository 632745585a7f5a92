"""Compile a function of images and weights to a program: eager torch, OpenVINO, TorchInductor or CUDA graphs.

| executor | file | `bind` | for |
|---|---|---|---|
| `eager` | this one | casts | everywhere; what the others are measured against |
| `openvino` | programs/openvino.py | compiles, in a fraction of a second | CPUs |
| `compile` | programs/inductor.py | casts | CPUs without OpenVINO, GPUs; the first start takes minutes |
| `cudagraphs` | programs/cudagraphs.py | casts | CUDA GPUs |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, fx


class Program(Protocol):
    """A function of its inputs, the weights inside. One thread at a time."""

    @property
    def nbytes(self) -> int:
        """Memory that dropping it frees, estimated."""
        ...

    def __call__(self, *inputs: Tensor) -> Tensor: ...


class Compiled(Protocol):
    """`module(*inputs, *weights)` compiled. `run` and programs belong to one thread; `bind` is safe from any."""

    def run(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """With weights handed in; those that are the very tensors given to `compile` cost nothing."""
        ...

    def bind(self, weights: Sequence[Tensor], shapes: Sequence[Sequence[int]] = ()) -> Program:
        """With these weights inside. They may be written afterwards, save the very tensors given to `compile`.

        `shapes` of the inputs it will be called with, where they are known: it is ready for them then. The first
        dimension does not matter.
        """
        ...


class Executor(Protocol):
    """How programs are made on this machine, and in which precision they compute.

    >>> executor = choose_executor("auto", "auto", "cpu", threads=1, cache=Path("programs"))    # doctest: +SKIP
    >>> branch = executor.compile(module, (activations,), weights, key="fingerprint-cut")       # doctest: +SKIP
    >>> branch.run((activations,), merged)                                                      # doctest: +SKIP
    """

    @property
    def name(self) -> str: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def compile(
        self, module: fx.GraphModule, inputs: Sequence[Tensor], weights: Sequence[Tensor], key: str
    ) -> Compiled:
        """Inputs and weights are examples: sizes of inputs may change from call to call, shapes of weights never.

        `key` names the program in the cache on disk: it must change with the module's constants. Inputs of any float
        dtype are taken and never written; outputs are in some float dtype and survive the next call.
        Raises BackboneError where the module cannot be compiled.
        """
        ...


@runtime_checkable
class Joining(Protocol):
    """An executor to which one program is cheaper than two that follow one another."""

    def join(self, first: Program, second: Program, shapes: Sequence[Sequence[int]], *, many: bool) -> Program:
        """`second(first(x), *others)` as one program of `x, *others`, for one sample at a time or for `many`.

        It is ready for inputs of these shapes. Both are programs of this executor, and stay as they are.
        """
        ...
