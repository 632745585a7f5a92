"""Errors of a forward pass are told apart: too little memory, a lost device, and everything else."""

from __future__ import annotations

import pytest
import torch

from lensmount_service.engine.memory import answers, is_device_lost, is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
    ],
)
def test_too_little_memory_is_recognised_in_every_class(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_device_lost(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        torch.AcceleratorError("CUDA error: unspecified launch failure"),
    ],
)
def test_a_lost_device_is_recognised(error: Exception) -> None:
    assert is_device_lost(error)
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", [ValueError("out of memory"), RuntimeError("size mismatch"), OSError("device-side")])
def test_other_errors_are_neither(error: Exception) -> None:
    assert not is_out_of_memory(error)
    assert not is_device_lost(error)


@pytest.mark.parametrize(
    ("error", "answered"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), False),
    ],
)
def test_a_device_answers_unless_it_fails_for_four_bytes(
    error: Exception, answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> object:
        raise error

    monkeypatch.setattr(torch, "ones", fails)

    assert answers(torch.device("cuda")) is answered
    assert answers(torch.device("cpu"))
