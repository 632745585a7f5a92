"""Captures that fail, tested without a GPU. Real captures are tested in tests/gpu/test_cudagraphs.py."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lensmount_adapters.errors import BackboneError
from lensmount_adapters.programs import cudagraphs as cudagraph_executor


class Stream:
    def wait_stream(self, other: object) -> None:
        pass


class NoGraph:
    """Takes the place of a stream or a graph."""

    def __init__(self, *given: object, **more: object) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *given: object) -> None:
        pass


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], object]:
    """Captures a program whose first run raises this error."""
    for name in ("stream", "graph", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, NoGraph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())

    def captured(error: Exception) -> object:
        def module(*inputs: torch.Tensor) -> torch.Tensor:
            raise error

        cast: Any = SimpleNamespace(module=module, device=torch.device("cuda"))
        compiled = object.__new__(cudagraph_executor.CudaGraphCompiled)
        compiled.__dict__.update(_cast=cast, _buffers=[], _stream=Stream(), _pool=None)
        return compiled._capture([torch.zeros(1)])

    return captured


def test_memory_that_runs_out_is_not_taken_for_a_backbone_that_cannot_be_captured(
    capture: Callable[[Exception], object],
) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        capture(torch.OutOfMemoryError("CUDA out of memory"))


def test_any_other_error_of_a_capture_says_that_the_backbone_cannot_be_captured(
    capture: Callable[[Exception], object],
) -> None:
    with pytest.raises(BackboneError, match="cannot be captured as a CUDA graph"):
        capture(RuntimeError("operation not permitted when stream is capturing"))
