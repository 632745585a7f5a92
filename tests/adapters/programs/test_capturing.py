"""Captures of CUDA graphs are alone in the process, whichever thread makes one. Tested without a GPU."""

from __future__ import annotations

import threading

import pytest
import torch
from tests.fake_cuda import FakeCuda
from torch import Tensor, fx
from torch.nn import functional as F

from lensmount_adapters.programs.capturing import CAPTURING, give_memory_back


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda.installed(monkeypatch)


def scaled(x: Tensor, matrix: Tensor) -> Tensor:
    return F.linear(x, matrix)


def test_threads_that_compile_at_the_same_time_capture_in_turn(cuda: FakeCuda) -> None:
    failed: list[BaseException] = []
    ready = threading.Barrier(4)
    modules = [fx.symbolic_trace(scaled) for _ in range(4)]  # torch.fx traces in one thread at a time

    def compile_it(module: fx.GraphModule) -> None:
        try:
            ready.wait()
            for _ in range(5):
                cuda.executor().compile(module, (torch.ones(2, 3),), (torch.ones(4, 3),), "")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=compile_it, args=(module,)) for module in modules]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert len(cuda.captures) == 4 * 5 * 3  # batches of 1, 2 and 4


def test_a_capture_waits_for_its_stream_and_never_for_the_device(cuda: FakeCuda) -> None:
    cuda.executor().compile(fx.symbolic_trace(scaled), (torch.ones(2, 3),), (torch.ones(4, 3),), "")

    assert cuda.calls["stream.synchronize"] == 3
    assert cuda.calls["synchronize"] == cuda.calls["empty_cache"] == 0


def test_memory_is_given_back_only_between_captures(cuda: FakeCuda) -> None:
    given = threading.Thread(target=give_memory_back, args=(torch.device("cuda"),))
    with CAPTURING:
        given.start()
        given.join(0.05)
        assert cuda.calls["empty_cache"] == 0
    given.join()
    assert cuda.calls["empty_cache"] == 1


def test_a_processor_has_no_memory_to_give_back(cuda: FakeCuda) -> None:
    give_memory_back(torch.device("cpu"))

    assert not cuda.calls
