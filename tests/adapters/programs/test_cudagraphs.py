"""Graphs, tested without a GPU by a `torch.cuda` that records them. Real captures are tested in tests/gpu."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tests.fake_cuda import FakeCuda
from torch import Tensor, fx
from torch.nn import functional as F

from lensmount_adapters.errors import BackboneError
from lensmount_adapters.programs.cudagraphs import CudaGraphCompiled, size_for, sizes_up_to


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda.installed(monkeypatch)


@pytest.fixture
def compiled(cuda: FakeCuda) -> Callable[..., CudaGraphCompiled]:
    """`compiled(function, weight, ...)` for inputs of three numbers."""

    def compile_it(function: Callable[..., Tensor], *weights: Tensor, max_batch: int = 4) -> CudaGraphCompiled:
        graph = fx.symbolic_trace(function)
        made: CudaGraphCompiled = cuda.executor(max_batch=max_batch).compile(graph, (torch.ones(1, 3),), weights, "")
        return made

    return compile_it


def scaled(x: Tensor, matrix: Tensor) -> Tensor:
    return F.linear(x, matrix)


def twice(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return F.linear(F.linear(x, first), second)


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_every_batch_size_up_to_the_largest_is_captured_while_compiling_and_none_later(
    cuda: FakeCuda, compiled: Callable[..., CudaGraphCompiled]
) -> None:
    matrix = numbers(4, 3)
    program = compiled(scaled, matrix, max_batch=6).bind((matrix,))
    assert len(cuda.captures) == 4  # 8, 4, 2 and 1

    for images in range(1, 9):
        x = numbers(images, 3)
        assert torch.allclose(program(x), x @ matrix.T)
    assert len(cuda.captures) == 4


def test_a_padded_batch_leaves_nothing_of_a_larger_one(compiled: Callable[..., CudaGraphCompiled]) -> None:
    program = compiled(scaled, torch.eye(3)).bind((torch.eye(3),))
    program(torch.full((4, 3), float("nan")))

    assert torch.equal(program(torch.ones(3, 3)), torch.ones(3, 3))


def test_answers_stay_valid_after_the_next_one(compiled: Callable[..., CudaGraphCompiled]) -> None:
    program = compiled(scaled, torch.eye(3)).bind((torch.eye(3),))
    first = program(torch.ones(2, 3))
    program(torch.zeros(2, 3))

    assert torch.equal(first, torch.ones(2, 3))


@pytest.mark.parametrize(("images", "size"), [(1, 1), (2, 2), (3, 4), (5, 8), (16, 16), (17, 32)])
def test_a_batch_is_padded_to_the_next_power_of_two(images: int, size: int) -> None:
    assert size_for(images) == size
    assert sizes_up_to(images) == [2**n for n in range(size.bit_length())]


def test_only_the_weights_that_differ_are_copied_before_a_replay(
    cuda: FakeCuda, compiled: Callable[..., CudaGraphCompiled]
) -> None:
    base, changed = (numbers(3, 3), numbers(2, 3)), numbers(2, 3) + 1
    made = compiled(twice, *base)
    program, of_base = made.bind((base[0], changed)), made.bind(base)
    copies: list[int] = []
    copy = torch._foreach_copy_

    def counted(to: list[Tensor], source: list[Tensor]) -> object:
        copies.append(len(to))
        return copy(to, source)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "_foreach_copy_", counted)
        x = numbers(2, 3)
        for each, weights in ((program, (base[0], changed)), (program, (base[0], changed)), (of_base, base)):
            assert torch.allclose(each(x), twice(x, *weights))
    assert copies == [1, 1, 1, 1, 1]  # each input; and a weight before the first and the third

    assert program.nbytes == changed.nbytes
    assert of_base.nbytes == 0


def test_weights_in_the_buffers_themselves_are_not_copied(
    cuda: FakeCuda, compiled: Callable[..., CudaGraphCompiled]
) -> None:
    made = compiled(scaled, torch.eye(3))
    with torch.inference_mode(), cuda.launches() as launches:
        made.buffers[0].fill_(2.0)
        answer = made.run((torch.ones(2, 3),), made.buffers)

    assert torch.equal(answer, torch.full((2, 3), 6.0))
    assert launches["_foreach_copy_"] == 1  # the images


class Fills:
    """Writes the buffer of a matrix."""

    rows = frozenset({1})

    def __init__(self, value: float) -> None:
        self.value = value
        self.written = 0

    def write(self, buffers: Sequence[Tensor]) -> None:
        self.written += 1
        buffers[1].fill_(self.value)


def test_a_writer_writes_once_until_others_used_its_buffers(compiled: Callable[..., CudaGraphCompiled]) -> None:
    base = (torch.eye(3), torch.eye(3))
    made = compiled(twice, *base)
    other, ones, twos = made.bind((torch.eye(3) * 5, torch.eye(3))), Fills(1.0), Fills(2.0)
    x = torch.ones(1, 3)

    def answer(writer: Fills) -> Tensor:
        made.load(writer)
        return made.replay_loaded((x,))

    assert torch.equal(answer(ones), torch.full((1, 3), 3.0))
    assert torch.equal(answer(ones), torch.full((1, 3), 3.0))
    assert ones.written == 1
    assert torch.equal(other(x), torch.full((1, 3), 5.0))
    assert torch.equal(answer(twos), torch.full((1, 3), 6.0))
    assert torch.equal(answer(ones), torch.full((1, 3), 3.0))
    assert ones.written == 2


def test_a_module_that_computes_nothing_gets_no_graph(
    cuda: FakeCuda, compiled: Callable[..., CudaGraphCompiled]
) -> None:
    program = compiled(lambda x: x.flatten(1)).bind(())
    x = numbers(2, 3)

    assert torch.equal(program(x), x)
    assert cuda.captures == []


def test_a_capture_that_another_thread_ended_is_tried_again(
    cuda: FakeCuda, compiled: Callable[..., CudaGraphCompiled]
) -> None:
    cuda.faults = [torch.AcceleratorError("CUDA error: operation failed due to a previous error during capture")]
    program = compiled(scaled, torch.eye(3)).bind((torch.eye(3),))

    assert torch.equal(program(torch.ones(4, 3)), torch.ones(4, 3))


def test_a_backbone_that_cannot_be_captured_twice_is_refused(
    cuda: FakeCuda, compiled: Callable[..., CudaGraphCompiled]
) -> None:
    cuda.faults = [RuntimeError("operation not permitted when stream is capturing")] * 2
    with pytest.raises(BackboneError, match="cannot be captured as a CUDA graph"):
        compiled(scaled, torch.eye(3))


def test_a_device_that_fails_during_a_capture_is_not_taken_for_a_backbone_that_cannot_be_captured(
    cuda: FakeCuda, compiled: Callable[..., CudaGraphCompiled]
) -> None:
    cuda.faults = [torch.AcceleratorError("CUDA error: an illegal memory access was encountered")]
    with pytest.raises(torch.AcceleratorError):
        compiled(scaled, torch.eye(3))


def test_a_batch_size_without_memory_gets_its_graph_when_it_is_needed(
    cuda: FakeCuda, compiled: Callable[..., CudaGraphCompiled]
) -> None:
    cuda.faults = [torch.OutOfMemoryError("CUDA out of memory")]  # of the largest, which is the first
    program = compiled(scaled, torch.eye(3)).bind((torch.eye(3),))
    cuda.faults = [torch.OutOfMemoryError("CUDA out of memory")]
    with pytest.raises(torch.OutOfMemoryError):
        program(torch.ones(4, 3))

    assert torch.equal(program(torch.ones(4, 3)), torch.ones(4, 3))


def test_graphs_compute_the_branch_of_a_network(cuda: FakeCuda, small_net: Any) -> None:
    base, changed = small_net.weights(0), small_net.weights(1)
    made = cuda.executor().compile(small_net.module(), small_net.inputs(2), base, "")
    for weights in (base, changed, (changed[0], *base[1:])):
        for images in (1, 3, 4, 5):
            expected = small_net.in_float64(small_net.inputs(images), weights)
            for answer in (made.run(small_net.inputs(images), weights), made.bind(weights)(*small_net.inputs(images))):
                assert (answer.double() - expected).abs().max() <= 1e-5 * expected.abs().max()
