"""Programs for CUDA GPUs: all kernels of a forward pass are launched at once, as one captured graph per batch size.

A graph reads fixed buffers. One launch copies into them the weights that differ from those of the last replay, so any
number of adapters share the graphs, and binding an adapter costs only the memory of the weights that it changes.

Graphs are captured for 1, 2, 4, ... images up to the largest batch while a module is compiled, the largest first, so
that the others reuse its memory. A batch in between is padded: its rows are independent, and the rows behind it are
thrown away. Only images of another size are captured when they first occur.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

import torch
from torch import Tensor, fx

from lensmount_adapters.errors import BackboneError, ExecutorUnavailable
from lensmount_adapters.programs.capturing import CAPTURING, captured_alone
from lensmount_adapters.programs.cast import Cast, Casting
from lensmount_adapters.programs.executor import Writer

MAX_GRAPHS = 64  # per program; the least recently replayed one is dropped
WARM_UP = 3  # runs before a capture, because nothing may be allocated for the first time during it
TRIES = 2  # of a capture: an unsafe call of another thread ends one that is under way


class CudaGraphs:
    """`CudaGraphs("cuda", torch.bfloat16, max_batch=16).compile(module, inputs, weights, key="")`.

    Nothing is kept on disk. Raises ExecutorUnavailable if there is no CUDA device.
    """

    name = "cudagraphs"

    def __init__(
        self, device: str | torch.device = "cuda", dtype: torch.dtype = torch.float32, max_batch: int = 16
    ) -> None:
        if torch.device(device).type != "cuda" or not torch.cuda.is_available():
            raise ExecutorUnavailable(
                f"found device {device} and {torch.cuda.device_count()} CUDA devices, expected one for the executor "
                f"{self.name}. Fix: the executor auto"
            )
        self.dtype = dtype
        self._device = torch.device(device)
        self._max_batch = max_batch
        torch.backends.cudnn.benchmark = True  # the warm-up of a capture tries cuDNN's algorithms once for its shapes

    def compile(
        self, module: fx.GraphModule, inputs: Sequence[Tensor], weights: Sequence[Tensor], key: str
    ) -> CudaGraphCompiled:
        cast = Cast(module, weights, self._device, self.dtype)
        compiled = CudaGraphCompiled(cast, tuple(weights), self._callable(cast.module))
        compiled.capture(inputs, self._max_batch)
        return compiled

    def _callable(self, module: fx.GraphModule) -> Forward:
        """What is captured for this module."""
        return module


class Forward(Protocol):
    """A module, or what a compiler made of it."""

    def __call__(self, *tensors: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Captured:
    """A graph with the tensors that it reads and writes. Without a kernel there is no graph."""

    graph: torch.cuda.CUDAGraph | None
    inputs: list[Tensor]
    output: Tensor


class CudaGraphCompiled:
    """The result of CudaGraphs.compile: the graphs captured so far and the buffers that they read.

    `_loaded` has, for each buffer, the object that it was written from; None if that may have changed since.
    """

    def __init__(self, cast: Casting, base: tuple[Tensor, ...], forward: Forward | None = None) -> None:
        self._cast = cast
        self._forward = forward or cast.module
        with torch.inference_mode():
            self.base = cast.weights(base)
            self.buffers = [torch.clone(weight) for weight in self.base]
        self._loaded: list[object] = list(self.base)
        self._captured: OrderedDict[tuple[torch.Size, ...], _Captured] = OrderedDict()
        self._pool = torch.cuda.graph_pool_handle()  # one pool and one stream, so that graphs reuse each other's memory
        self._stream = torch.cuda.Stream(cast.device)  # type: ignore[no-untyped-call]  # torch's

    @torch.inference_mode()
    def capture(self, inputs: Sequence[Tensor], max_batch: int) -> None:
        """Capture every batch size up to `max_batch`, for samples like those of the inputs.

        A size that finds no memory is left out: it would find none later either.
        """
        for size in reversed(sizes_up_to(max_batch)):
            examples = [x[:1].expand(size, *x.shape[1:]) for x in inputs]
            with self._on_device(), _unless_memory_is_short(size):
                self._captured_for(self._cast.inputs(examples), size)

    def run(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """Run with these weights; with `buffers`, which the caller wrote, nothing is copied."""
        if weights is self.buffers:
            self._loaded = [None] * len(self.buffers)
            return self.replay_loaded(inputs)
        with torch.inference_mode():
            output = self.replay(inputs, self._cast.weights(weights))
        # the caller may write to its weights before the next call
        self._loaded = [base if now is base else None for now, base in zip(self._loaded, self.base, strict=True)]
        return output

    def bind(self, weights: Sequence[Tensor], shapes: Sequence[Sequence[int]] = ()) -> CudaGraphProgram:
        with torch.inference_mode():
            own = self._cast.weights(weights, copied=True)
        nbytes = sum(weight.nbytes for weight, base in zip(own, self.base, strict=True) if weight is not base)
        return CudaGraphProgram(self, own, nbytes)

    @torch.inference_mode()
    def replay(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """Run with weights that are already cast. The weights of the previous replay are still in the buffers."""
        with self._on_device():
            self._load(weights)
            return self.replay_loaded(inputs)

    @torch.inference_mode()
    def load(self, writer: Writer) -> None:
        """Write the buffers of the writer, unless it was the last one to write them, and the base's into the others."""
        weights = list(self.base)
        written = all(self._loaded[row] is writer for row in writer.rows)
        for row in writer.rows:
            weights[row] = self.buffers[row]
        with self._on_device():
            self._load(weights)
            if not written:
                writer.write(self.buffers)
                for row in writer.rows:
                    self._loaded[row] = writer

    @torch.inference_mode()
    def replay_loaded(self, inputs: Sequence[Tensor]) -> Tensor:
        """Run with what is in the buffers."""
        cast_inputs = self._cast.inputs(inputs)
        with self._on_device():
            count = len(cast_inputs[0])
            captured = self._captured_for(cast_inputs, size_for(count))
            if captured.graph is None:
                return self._forward(*cast_inputs, *self.buffers).clone()
            torch._foreach_copy_([x[:count] for x in captured.inputs], cast_inputs)
            captured.graph.replay()
            return captured.output[:count].clone()  # the next replay overwrites it

    def resident(self) -> dict[str, Tensor]:
        """The tensors that compute and are never written: constants of the module, and the base's weights."""
        module = self._cast.module
        constants: dict[str, Tensor] = dict(module.named_parameters()) | dict(module.named_buffers())
        return {f"constant {name}": tensor for name, tensor in constants.items()} | {
            f"weight {row}": tensor for row, tensor in enumerate(self.base)
        }

    def _load(self, weights: Sequence[Tensor]) -> None:
        """Copy the weights that are not in their buffers yet."""
        rows = [
            row
            for row, (weight, loaded, buffer) in enumerate(zip(weights, self._loaded, self.buffers, strict=True))
            if weight is not loaded and weight is not buffer
        ]
        for row in rows:
            self._loaded[row] = None  # a copy that fails leaves something in between
        if rows:
            torch._foreach_copy_([self.buffers[row] for row in rows], [weights[row] for row in rows])
        for row in rows:
            self._loaded[row] = weights[row]

    def _captured_for(self, cast_inputs: list[Tensor], size: int) -> _Captured:
        shapes = tuple(torch.Size((size, *x.shape[1:])) for x in cast_inputs)
        if shapes not in self._captured:
            self._captured[shapes] = self._capture([_padded(x, size) for x in cast_inputs])
            if len(self._captured) > MAX_GRAPHS:
                self._captured.popitem(last=False)
        self._captured.move_to_end(shapes)
        return self._captured[shapes]

    def _capture(self, inputs: list[Tensor]) -> _Captured:
        for attempt in range(TRIES):
            try:
                with CAPTURING:
                    return self._capture_once(inputs)
            except torch.OutOfMemoryError:  # temporary: the next attempt may find memory
                raise
            except RuntimeError as error:
                if isinstance(error, torch.AcceleratorError) and "captur" not in str(error):
                    raise  # the device failed, so the backbone is not at fault
                if attempt + 1 == TRIES:
                    raise BackboneError(
                        f"this backbone cannot be captured as a CUDA graph: {str(error)[:200]}. Fix: the executor eager"
                    ) from error
        raise AssertionError

    def _capture_once(self, inputs: list[Tensor]) -> _Captured:
        current = torch.cuda.current_stream(self._cast.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP):
                output = self._forward(*inputs, *self.buffers)
            current.wait_stream(self._stream)
            if _is_view_of(output, inputs):
                return _Captured(None, inputs, output)
            graph = torch.cuda.CUDAGraph()
            with captured_alone(graph, self._stream, self._pool):
                output = self._forward(*inputs, *self.buffers)
        return _Captured(graph, inputs, output)

    def _on_device(self) -> torch.cuda.device:
        return torch.cuda.device(self._cast.device)


@dataclass(frozen=True, slots=True, eq=False)
class CudaGraphProgram:
    compiled: CudaGraphCompiled
    weights: tuple[Tensor, ...]
    nbytes: int

    def __call__(self, *inputs: Tensor) -> Tensor:
        return self.compiled.replay(inputs, self.weights)

    def resident(self) -> dict[str, Tensor]:
        """Those of the compiled module, from whose base weights this program may differ."""
        return self.compiled.resident()


def size_for(images: int) -> int:
    """The smallest power of two that holds this many images."""
    return 1 << (images - 1).bit_length()


def sizes_up_to(max_batch: int) -> list[int]:
    """1, 2, 4, ... and the size that a batch of `max_batch` is padded to."""
    return list(takewhile(lambda size: size <= size_for(max_batch), (1 << power for power in range(max_batch + 1))))


@contextmanager
def _unless_memory_is_short(size: int) -> Iterator[None]:
    """Do without a graph for this many images, but not without one for a single image."""
    try:
        yield
    except torch.OutOfMemoryError:
        if size == 1:
            raise


def _padded(x: Tensor, size: int) -> Tensor:
    """A buffer for `size` samples, with the first sample in each row: rows that nobody asked for stay finite."""
    return x[:1].expand(size, *x.shape[1:]).clone(memory_format=torch.preserve_format)


def _is_view_of(output: Tensor, inputs: Sequence[Tensor]) -> bool:
    """Whether nothing was computed. A graph without a kernel is not worth a launch, and torch warns of it."""
    memory = output.untyped_storage().data_ptr()
    return any(x.untyped_storage().data_ptr() == memory for x in inputs)
