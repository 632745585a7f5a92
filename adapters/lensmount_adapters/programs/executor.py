"""Compile a function of images and weights to a program: eager torch, OpenVINO, TorchInductor or CUDA graphs.

| executor | file | `bind` | for |
|---|---|---|---|
| `eager` | this one | casts | everywhere; what the others are measured against |
| `openvino` | programs/openvino.py | compiles, in a fraction of a second | CPUs |
| `compile` | programs/inductor.py | casts | CPUs without OpenVINO, GPUs; the first start takes minutes |
| `cudagraphs` | programs/cudagraphs.py | casts | CUDA GPUs |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, fx

from lensmount_adapters.dtypes import WORDS, full_word
from lensmount_adapters.errors import ExecutorUnavailable
from lensmount_adapters.machine import computes_bfloat16, device_name
from lensmount_adapters.programs.cast import Cast
from lensmount_adapters.programs.race import fastest, recall, remember

NAMES = ("auto", "eager", "openvino", "compile", "cudagraphs")
PRECISIONS: dict[str, torch.dtype] = {word: getattr(torch, word) for word in WORDS}


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


class Eager:
    """`Eager("cpu", torch.bfloat16).compile(module, inputs, weights, key="")`: torch, operation by operation."""

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
    """What torch computes by `call`, the cast module or a faster form of it; `copies`: `call` gets its own inputs."""

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


def choose_executor(
    name: str, precision: str, device: str | torch.device, threads: int, cache: Path | None
) -> Executor:
    """An executor by its name and precision; "auto" takes what is installed and measurably pays on this machine.

    `threads` are OpenVINO's own, torch has its setting. `cache` is the folder for programs and for what was measured.
    Raises ExecutorUnavailable with the cure where what is asked for cannot be had.
    """
    device, precision = torch.device(device), full_word(precision)
    if name not in NAMES or precision not in ("auto", *PRECISIONS):
        raise ExecutorUnavailable(
            f"found executor {name!r} with precision {precision!r}, expected one of {', '.join(NAMES)} "
            f"with auto, {', '.join(PRECISIONS)}"
        )
    if "auto" not in (name, precision):
        return _make(name, PRECISIONS[precision], device, threads, cache)
    asked = f"{name} {precision} on {device_name(device)} with {threads} threads"
    known = recall(asked, cache)
    if known in {(n, p) for n in NAMES for p in PRECISIONS}:
        return _make(known[0], PRECISIONS[known[1]], device, threads, cache)
    chosen = fastest(_candidates(name, precision, device, threads, cache), device)
    remember(asked, (chosen.name, str(chosen.dtype).removeprefix("torch.")), cache)
    return chosen


def _candidates(name: str, precision: str, device: torch.device, threads: int, cache: Path | None) -> list[Executor]:
    """The plain ones first: each has to pay to be taken instead of those before it."""
    own = "cudagraphs" if device.type == "cuda" else "openvino"
    names = ("eager", own) if name == "auto" else (name,)
    dtypes = _worth_trying(device) if precision == "auto" else (PRECISIONS[precision],)
    found: list[Executor] = []
    missing: ExecutorUnavailable | None = None
    for dtype in dtypes:
        for one in names:
            try:
                found.append(_make(one, dtype, device, threads, cache))
            except ExecutorUnavailable as error:
                missing = error
    if missing is not None and not found:
        raise missing
    return found


def _worth_trying(device: torch.device) -> tuple[torch.dtype, ...]:
    """float32, and a half precision that the device computes in hardware; bfloat16 first: its range is float32's."""
    if computes_bfloat16(device):
        return (torch.float32, torch.bfloat16)
    return (torch.float32, torch.float16) if device.type == "cuda" else (torch.float32,)


def _make(name: str, dtype: torch.dtype, device: torch.device, threads: int, cache: Path | None) -> Executor:
    if name == "openvino":
        from lensmount_adapters.programs.openvino import OpenVino  # the libraries of the others need not be there

        return OpenVino(device, dtype, threads, cache)
    if name == "compile":
        from lensmount_adapters.programs.inductor import Inductor

        return Inductor(device, dtype, cache)
    if name == "cudagraphs":
        from lensmount_adapters.programs.cudagraphs import CudaGraphs

        return CudaGraphs(device, dtype)
    return Eager(device, dtype)
