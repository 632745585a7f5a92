"""CUDA graphs on a CUDA device: what they share, when they are dropped, and what "auto" chooses.

tests/adapters/programs/test_executor.py shows that they compute the right results, as it does for all executors.
"""

from __future__ import annotations

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
    compiled = CudaGraphs("cuda").compile(fx.symbolic_trace(scaled), (torch.ones(2, 3),), (torch.ones(4, 3),), "")
    programs = [compiled.bind((torch.full((4, 3), float(value)),)) for value in range(5)]
    for value, program in enumerate(programs):
        for images in (2, 7):
            assert torch.equal(program(torch.ones(images, 3)).cpu(), torch.full((images, 4), 3.0 * value))
    assert len(captures) == 2

    programs[0](torch.ones(5, 3))  # drops the graph of 2 images
    programs[0](torch.ones(7, 3))
    assert len(captures) == 3
    assert torch.equal(programs[1](torch.ones(2, 3)).cpu(), torch.full((2, 4), 3.0))
    assert len(captures) == 4


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
    compiled = CudaGraphs("cuda").compile(fx.GraphModule({}, graph), (torch.ones(3),), (), "")
    with pytest.raises(BackboneError, match="cannot be captured as a CUDA graph"):
        compiled.run((torch.ones(3),), ())


def test_auto_chooses_an_executor_for_the_gpu(tmp_path: Path) -> None:
    chosen = choose_executor("auto", "auto", "cuda", threads=1, cache=tmp_path)
    assert chosen.name in ("eager", "cudagraphs")
    assert len(list(tmp_path.glob("executor-*.json"))) == 1
