"""CUDA graphs on a CUDA device: what they share, when they are dropped, and what "auto" chooses.

tests/adapters/programs/test_executor.py shows that they compute the right results, as it does for all executors.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx
from torch.nn import functional as F

from lensmount_adapters.errors import BackboneError
from lensmount_adapters.programs import cudagraphs as cudagraph_executor
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.programs.cudagraphs import CudaGraphs

pytestmark = pytest.mark.gpu


def scaled(x: Tensor, matrix: Tensor) -> Tensor:
    return F.linear(x, matrix)


def test_programs_share_the_graphs_of_their_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cudagraph_executor, "MAX_GRAPHS", 2)
    captures: list[object] = []
    capture = torch.cuda.CUDAGraph.capture_begin
    monkeypatch.setattr(
        torch.cuda.CUDAGraph, "capture_begin", lambda *args, **kwargs: (captures.append(1), capture(*args, **kwargs))[1]
    )
    graph, inputs, weights = fx.symbolic_trace(scaled), (torch.ones(2, 3),), (torch.ones(4, 3),)
    compiled = CudaGraphs("cuda", max_batch=1).compile(graph, inputs, weights, "")
    programs = [compiled.bind((torch.full((4, 3), float(value)),)) for value in range(5)]
    captures.clear()  # that of a single image
    for value, program in enumerate(programs):
        for images in (2, 7):
            assert torch.equal(program(torch.ones(images, 3)).cpu(), torch.full((images, 4), 3.0 * value))
    assert len(captures) == 2

    programs[0](torch.ones(9, 3))  # drops the graph of 2 images
    programs[0](torch.ones(5, 3))  # padded to 8
    assert len(captures) == 3
    assert torch.equal(programs[1](torch.ones(2, 3)).cpu(), torch.full((2, 4), 3.0))
    assert len(captures) == 4


def test_every_batch_size_is_captured_while_compiling_and_answers_like_torch() -> None:
    matrix = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    compiled = CudaGraphs("cuda", max_batch=16).compile(fx.symbolic_trace(scaled), (torch.ones(1, 3),), (matrix,), "")
    program = compiled.bind((matrix,))
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(torch.cuda.CUDAGraph, "capture_begin")  # nothing is captured any more
        for images in range(1, 17):
            x = torch.randn(images, 3, generator=torch.Generator().manual_seed(images))
            assert (program(x).cpu() - x @ matrix.T).abs().max() < 1e-2  # TF32


def test_threads_that_compile_at_the_same_time_capture_in_turn() -> None:
    modules = [fx.symbolic_trace(scaled) for _ in range(4)]

    def compile_it(module: fx.GraphModule) -> Tensor:
        made = CudaGraphs("cuda").compile(module, (torch.ones(2, 3),), (torch.ones(4, 3),), "")
        return made.bind((torch.ones(4, 3),))(torch.ones(3, 3)).cpu()

    with ThreadPoolExecutor(4) as threads:
        for answer in threads.map(compile_it, modules * 5):
            assert torch.equal(answer, torch.full((3, 4), 3.0))


def test_a_module_that_computes_nothing_gets_no_graph_and_torch_warns_of_none() -> None:
    graph = fx.Graph()
    graph.output(graph.placeholder("x"))
    program = CudaGraphs("cuda").compile(fx.GraphModule({}, graph), (torch.ones(2, 3),), (), "").bind(())

    assert torch.equal(program(torch.ones(3, 3)).cpu(), torch.ones(3, 3))


def test_weights_that_were_written_since_the_last_run_are_read_again() -> None:
    compiled = CudaGraphs("cuda").compile(fx.symbolic_trace(scaled), (torch.ones(2, 3),), (torch.ones(4, 3),), "")
    buffer = torch.ones(4, 3, device="cuda")
    for value in (1.0, 2.0):
        buffer.fill_(value)
        assert torch.equal(compiled.run((torch.ones(2, 3),), (buffer,)).cpu(), torch.full((2, 4), 3 * value))


def test_a_module_that_waits_for_the_gpu_cannot_be_captured() -> None:
    def waits(x: Tensor) -> Tensor:
        return x * torch.nonzero(x).shape[0]

    graph = fx.Graph()
    graph.output(graph.call_function(waits, (graph.placeholder("x"),)))
    with pytest.raises(BackboneError, match="cannot be captured as a CUDA graph"):
        CudaGraphs("cuda").compile(fx.GraphModule({}, graph), (torch.ones(3),), (), "")


def test_auto_chooses_an_executor_for_the_gpu(tmp_path: Path) -> None:
    chosen = choose_executor("auto", "auto", "cuda", threads=1, cache=tmp_path)
    assert chosen.name in ("eager", "cudagraphs")
    assert len(list(tmp_path.glob("executor-*.json"))) == 1
