"""The sum that a switch computes: compared with float64, written only where it belongs, in one pass or in two steps."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from lensmount_adapters.delta import addmm
from lensmount_adapters.delta.addmm import KernelCache, in_two_steps, planned_product

KERNEL_FILE = "lensmount_adapters.delta.addmm_kernel"
LONG_ROW = 2048
SHAPES = [(1, 1), (3, 7), (8, 8), (9, 16), (17, 31), (64, 112), (5, LONG_ROW), (8, LONG_ROW + 3), (33, LONG_ROW + 8)]
MARGIN = 64  # numbers on either side of `live` that must stay as they are


def random_parts(shape: tuple[int, int], rank: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(rank)
    rows, columns = shape
    sizes = ((rows, columns), (rows, rank), (rank, columns))
    base, B, A = (torch.randn(size, generator=draw) for size in sizes)
    return base, B, A


@pytest.mark.parametrize("rank", [1, 3, 4, 8, 13, 16, 17, 40])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_sum_is_that_of_float64_and_nothing_around_it_is_written(shape: tuple[int, int], rank: int) -> None:
    base, B, A = random_parts(shape, rank)
    around = torch.full((MARGIN + base.numel() + MARGIN,), 7.0)
    live = around[MARGIN:-MARGIN].view(shape).fill_(float("nan"))
    kept = [tensor.clone() for tensor in (base, B, A)]
    planned_product(base, B, A, 0.37, live)()
    expected = base.double() + 0.37 * (B.double() @ A.double())
    within = base.double().abs() + 0.37 * (B.double().abs() @ A.double().abs())  # rounding errors are in proportion
    assert ((live - expected).abs() <= (rank + 2) * 2**-24 * within).all()
    assert (around[:MARGIN] == 7).all() and (around[-MARGIN:] == 7).all()  # noqa: PT018  # one fact
    assert all(torch.equal(now, then) for now, then in zip((base, B, A), kept, strict=True))


def test_a_plan_keeps_the_tensors_that_it_reads() -> None:
    base, B, A = random_parts((9, 24), 8)
    live, expected = torch.empty(9, 24), torch.empty(9, 24)
    planned_product(base, B, A, 1.0, expected)()

    plan = planned_product(base, B * 1.0, A * 1.0, 1.0, live)
    others = [torch.full((n,), float("nan")) for n in (9 * 8, 8 * 24) for _ in range(8)]  # would reuse freed factors
    plan()

    assert len(others) == 16
    assert torch.equal(live, expected)


class NeverUsed:
    def planned(self, *_: object) -> None:
        raise AssertionError("one pass")


@pytest.mark.parametrize(
    "why", ["no kernel file", "broken llvmlite", "two threads", "high rank", "strided", "bfloat16"]
)
def test_if_one_pass_is_not_possible_torch_computes_two_steps(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addmm, "KERNELS", KernelCache())
    kernel_file = SimpleNamespace(OnePassAddmm=lambda rank: 1 / 0 if why == "broken llvmlite" else NeverUsed())
    monkeypatch.setitem(sys.modules, KERNEL_FILE, None if why == "no kernel file" else kernel_file)
    base, B, A = random_parts((9, 24), 17 if why == "high rank" else 8)
    if why == "bfloat16":
        base = base.bfloat16()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2 if why == "two threads" else 1)
    if why == "strided":
        base = base.t().contiguous().t()
    live, expected = torch.empty(9, 24), torch.empty(9, 24)
    planned_product(base, B, A, 0.5, live)()
    in_two_steps(base, B, A, 0.5, expected)
    assert torch.equal(live, expected)


def test_each_kernel_is_made_once_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    class Kernel(NeverUsed):
        def __init__(self, rank: int) -> None:
            made.append(rank)

    monkeypatch.setitem(sys.modules, KERNEL_FILE, SimpleNamespace(OnePassAddmm=Kernel))
    cache = KernelCache()
    found: list[object] = []
    threads = [threading.Thread(target=lambda rank=rank: found.append(cache.kernel(rank))) for rank in (8, 8, 4, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [4, 8]
    assert len(found) == 4
    assert len(set(found)) == 2
