"""Captures that fail, tested without a GPU. Real captures are tested in tests/gpu/test_cudagraphs.py."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lensmount_adapters.errors import BackboneError
from lensmount_adapters.programs.cudagraphs import CudaGraphCompiled


class Nothing:
    """Takes the place of a stream, a graph or a device."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *args: object) -> None:
        pass

    def wait_stream(self, other: object) -> None:
        pass


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], object]:
    """Captures a program whose first run raises this error."""
    for name in ("stream", "graph", "CUDAGraph", "Stream", "device", "current_stream", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, Nothing)

    def captured(error: Exception) -> object:
        def module(*inputs: torch.Tensor) -> torch.Tensor:
            raise error

        cast: Any = SimpleNamespace(
            module=module,
            device=torch.device("cuda"),
            inputs=list,
            weights=tuple,
        )
        return CudaGraphCompiled(cast, ()).run([torch.zeros(1)], [])

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
