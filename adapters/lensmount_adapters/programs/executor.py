"""Compile a function of images and weights to a program: by eager torch, OpenVINO, ONNX Runtime and others.

| executor | file | `bind` | for |
|---|---|---|---|
| `eager` | programs/eager.py | casts | everywhere; the others are compared with it |
| `openvino` | programs/openvino.py | compiles, in a fraction of a second | CPUs |
| `onnxruntime` | programs/onnxruntime.py | copies, and makes a session | CPUs for which there is no OpenVINO; float32 |
| `compile` | programs/inductor.py | casts | CPUs without OpenVINO, GPUs; the first start takes minutes |
| `cudagraphs` | programs/cudagraphs.py | casts | CUDA GPUs |
| `autotune` | programs/autotune.py | casts | CUDA GPUs; the first start takes minutes |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, fx


class Program(Protocol):
    """A function of its inputs that has its weights inside. One thread at a time may call it."""

    @property
    def nbytes(self) -> int:
        """An estimate of the memory that is freed when the program is dropped."""
        ...

    def __call__(self, *inputs: Tensor) -> Tensor: ...


class Compiled(Protocol):
    """`module(*inputs, *weights)`, compiled. One thread calls `run` and the programs; any thread may call `bind`."""

    def run(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """Run with these weights. Weights that are the same tensor objects as in `compile` cost nothing."""
        ...

    def bind(self, weights: Sequence[Tensor], shapes: Sequence[Sequence[int]] = ()) -> Program:
        """A program with these weights inside. The caller may write to them later, unless they were given to `compile`.

        `shapes` are the shapes of the inputs of later calls, if they are known; the program is then prepared for them.
        The first dimension does not matter.
        """
        ...


class Writer(Protocol):
    """Writes some of the weights of an `InPlace` function itself; `rows` says which."""

    @property
    def rows(self) -> frozenset[int]: ...

    def write(self, buffers: Sequence[Tensor]) -> None: ...


@runtime_checkable
class InPlace(Protocol):
    """A compiled function that reads its weights from fixed buffers, where they may be written.

    The buffers have the precision and the layout of the program: channels last. `run(inputs, buffers)` copies nothing.
    """

    @property
    def buffers(self) -> Sequence[Tensor]: ...

    def run(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor: ...

    def load(self, writer: Writer) -> None:
        """Let the writer write, unless it was the last one to do so, and restore the base in all other buffers."""
        ...

    def replay_loaded(self, inputs: Sequence[Tensor]) -> Tensor:
        """Run with what is in the buffers."""
        ...


@runtime_checkable
class RoundsLayers(Protocol):
    """A compiled function that can compute its convolutions in int8."""

    def bind_int8(
        self,
        weights: Sequence[Tensor],
        ranges: Mapping[int, tuple[float, float]],
        shapes: Sequence[Sequence[int]] = (),
    ) -> Program:
        """As `bind`, with convolutions in int8. `ranges` has the least and the largest number that enters a layer, by
        the index of the layer's weight. Layers without a range stay as they are.
        """
        ...


@runtime_checkable
class ShowsTensors(Protocol):
    """A compiled function or program that shows the tensors it computes with, which nothing should change."""

    def resident(self) -> Mapping[str, Tensor]: ...


class Executor(Protocol):
    """Makes programs on this machine; they compute in the precision `dtype`.

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
        """Compile the module. `inputs` and `weights` are examples: only the sizes of inputs may differ in later calls.

        `key` names the program in the cache on disk, so it must change with the module's constants. Inputs may have any
        float dtype and are never written to. Outputs have some float dtype and stay valid after the next call.
        Raises BackboneError if the module cannot be compiled.
        """
        ...


@runtime_checkable
class Joining(Protocol):
    """An executor for which one joined program is cheaper than two programs in a row."""

    def join(
        self,
        first: Program,
        second: Program,
        shapes: Sequence[Sequence[int]],
        *,
        many: bool,
        appended: Program | None = None,
        flat: bool = False,
    ) -> Program:
        """`second(first(x), *others)` as one program of `x, *others`, for single samples or, with `many`, for batches.

        The columns of `appended(first(x))` follow those of the result; with `flat`, all numbers of a sample's result
        are columns. The new program is prepared for inputs of these
        shapes. All arguments are programs of this executor; they can still be used.
        """
        ...


@runtime_checkable
class TakesModels(Protocol):
    """An executor that takes models of its own kind, such as one that another library has quantised."""

    def model_of(self, module: fx.GraphModule, inputs: Sequence[Tensor], weights: Sequence[Tensor], key: str) -> Any:
        """The module as such a model. Raises BackboneError as `compile` does."""
        ...

    def read(self, xml: bytes, weights: bytes) -> Any:
        """A model that was stored. Raises RuntimeError if it cannot be read."""
        ...

    def program(self, model: Any, shape: Sequence[int]) -> Program:
        """A program of a model without weights as inputs, prepared for inputs of this shape."""
        ...
