"""Programs for CUDA GPUs: all kernels of a forward pass are launched at once, as one captured graph per input shape.

A graph reads fixed buffers. One launch copies the weights into them before a replay, so any number of adapters share
the graphs, and binding an adapter costs only the memory of its weights.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from lensmount_adapters.errors import BackboneError, ExecutorUnavailable
from lensmount_adapters.programs.cast import Cast

MAX_GRAPHS = 64  # per program; the least recently replayed one is dropped
WARM_UP = 3  # runs before a capture, because nothing may be allocated for the first time during it


class CudaGraphs:
    """`CudaGraphs("cuda", torch.bfloat16).compile(module, inputs, weights, key="")`.

    Nothing is kept on disk. Raises ExecutorUnavailable if there is no CUDA device.
    """

    name = "cudagraphs"

    def __init__(self, device: str | torch.device = "cuda", dtype: torch.dtype = torch.float32) -> None:
        if torch.device(device).type != "cuda" or not torch.cuda.is_available():
            raise ExecutorUnavailable(
                f"found device {device} and {torch.cuda.device_count()} CUDA devices, expected one for the executor "
                "cudagraphs. Fix: the executor auto"
            )
        self.dtype = dtype
        self._device = torch.device(device)

    def compile(
        self, module: fx.GraphModule, inputs: Sequence[Tensor], weights: Sequence[Tensor], key: str
    ) -> CudaGraphCompiled:
        return CudaGraphCompiled(Cast(module, weights, self._device, self.dtype), tuple(weights))


@dataclass(frozen=True, slots=True, eq=False)
class _Captured:
    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    output: Tensor


class CudaGraphCompiled:
    """The result of CudaGraphs.compile: the graphs captured so far and the buffers that they read."""

    def __init__(self, cast: Cast, base: tuple[Tensor, ...]) -> None:
        self._cast = cast
        with torch.inference_mode():
            self._buffers = [torch.clone(weight) for weight in cast.weights(base)]
        self._loaded: tuple[Tensor, ...] | None = None
        self._captured: OrderedDict[tuple[torch.Size, ...], _Captured] = OrderedDict()
        self._pool = torch.cuda.graph_pool_handle()  # one pool and one stream, so that graphs reuse each other's memory
        self._stream = torch.cuda.Stream(cast.device)  # type: ignore[no-untyped-call]  # torch's

    def run(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        with torch.inference_mode():
            output = self.replay(inputs, self._cast.weights(weights))
        self._loaded = None  # the caller may write to its weights before the next call
        return output

    def bind(self, weights: Sequence[Tensor], shapes: Sequence[Sequence[int]] = ()) -> CudaGraphProgram:
        with torch.inference_mode():
            return CudaGraphProgram(self, self._cast.weights(weights, copied=True), self._cast.nbytes(weights))

    @torch.inference_mode()
    def replay(self, inputs: Sequence[Tensor], weights: tuple[Tensor, ...]) -> Tensor:
        """Run with weights that are already cast. The weights of the previous replay are still in the buffers."""
        cast_inputs = self._cast.inputs(inputs)
        with torch.cuda.device(self._cast.device):
            if weights is not self._loaded:
                self._loaded = None
                if weights:
                    torch._foreach_copy_(self._buffers, list(weights))
                self._loaded = weights
            captured = self._captured_for(cast_inputs)
            torch._foreach_copy_(captured.inputs, cast_inputs)
            captured.graph.replay()
            return captured.output.clone()  # the next replay overwrites it

    def _captured_for(self, cast_inputs: list[Tensor]) -> _Captured:
        shapes = tuple(x.shape for x in cast_inputs)
        if shapes not in self._captured:
            self._captured[shapes] = self._capture(cast_inputs)
            if len(self._captured) > MAX_GRAPHS:
                self._captured.popitem(last=False)
        self._captured.move_to_end(shapes)
        return self._captured[shapes]

    def _capture(self, cast_inputs: list[Tensor]) -> _Captured:
        inputs = [torch.clone(x) for x in cast_inputs]
        module = self._cast.module
        current = torch.cuda.current_stream(self._cast.device)
        graph = torch.cuda.CUDAGraph()
        try:
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UP):
                    module(*inputs, *self._buffers)
            current.wait_stream(self._stream)
            # thread_local: another thread may bind during the capture
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                output = module(*inputs, *self._buffers)
        except torch.OutOfMemoryError:  # temporary: the next attempt may find memory, so the backbone is not at fault
            raise
        except RuntimeError as error:
            raise BackboneError(
                f"this backbone cannot be captured as a CUDA graph: {str(error)[:200]}. Fix: the executor eager"
            ) from error
        return _Captured(graph, inputs, output)


@dataclass(frozen=True, slots=True, eq=False)
class CudaGraphProgram:
    compiled: CudaGraphCompiled
    weights: tuple[Tensor, ...]
    nbytes: int

    def __call__(self, *inputs: Tensor) -> Tensor:
        return self.compiled.replay(inputs, self.weights)
