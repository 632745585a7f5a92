"""What the machine can compute is asked from torch, and an environment that masks instructions is respected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lensmount_adapters import machine

CPU = torch.device("cpu")


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`processor(avx512_bf16=True)`: torch reports these capabilities, and no variable masks them."""
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)

    def report(**capabilities: Any) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)

    return report


def test_a_cpu_computes_bfloat16_if_one_of_its_instruction_sets_does(processor: Callable[..., None]) -> None:
    processor(cpu_name="one", avx512_bf16=False, amx_bf16=True)
    assert machine.computes_bfloat16(CPU)
    processor(cpu_name="two", avx512_bf16=False, avx2=True)
    assert not machine.computes_bfloat16(CPU)


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_a_masked_processor_computes_no_bfloat16(
    name: str, processor: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(cpu_name="one", amx_bf16=True)
    monkeypatch.setenv(name, "avx2")
    assert machine.masks_bfloat16()
    assert not machine.computes_bfloat16(CPU)
    monkeypatch.setenv(name, "AVX512_CORE_AMX")
    assert machine.computes_bfloat16(CPU)


def test_the_name_of_a_cpu_changes_with_its_instruction_sets(processor: Callable[..., None]) -> None:
    processor(cpu_name="one", amx_bf16=True)
    with_amx = machine.device_name(CPU)
    processor(cpu_name="one", amx_bf16=False)
    assert with_amx.startswith("cpu one ")
    assert machine.device_name(CPU).startswith("cpu one ")
    assert machine.device_name(CPU) != with_amx
    assert machine.device_name(torch.device("meta")) == "meta"


def test_returning_memory_to_the_system_is_allowed_at_any_time() -> None:
    kept = torch.arange(1000)
    machine.release_memory()
    assert int(kept.sum()) == 499_500


@pytest.mark.parametrize(("available", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_if_there_is_one(available: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)

    assert machine.choose_device("auto") == device
    assert machine.choose_device("cpu") == "cpu"


def test_the_memory_of_a_gpu_is_counted_and_bounded_and_that_of_a_cpu_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[tuple[float, str]] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7, 10))
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: bounds.append((share, device.type))
    )
    for name in ("cpu", "cuda"):
        for share in (0.5, 1.0):
            machine.bound_memory(torch.device(name), share)

    assert [machine.free_memory(torch.device(name)) for name in ("cpu", "cuda")] == [None, 7]
    assert bounds == [(0.5, "cuda")]
