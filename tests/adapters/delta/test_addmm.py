"""The sum of a switch, both ways: beside float64, inside its bounds, and always the same bits."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from lensmount_adapters.delta import addmm as product
from lensmount_adapters.delta.addmm import LONG_ROWS, RANKS, OnePassAddmm, in_two_steps, one_pass, planned_product

SHAPES = [(1, 1), (3, 7), (8, 8), (9, 16), (17, 31), (64, 112), (5, LONG_ROWS), (8, LONG_ROWS + 3), (33, LONG_ROWS + 8)]
GUARD = 64  # weights on either side that nobody may touch


def kernel(rank: int) -> OnePassAddmm:
    found = one_pass(rank)
    assert found is not None
    return found


def parts(shape: tuple[int, int], rank: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(rank)
    rows, columns = shape
    sizes = ((rows, columns), (rows, rank), (rank, columns))
    base, B, A = (torch.randn(size, generator=draw) for size in sizes)
    return base, B, A


@pytest.mark.parametrize("rank", [1, 3, 4, 8, 13, 16, 17, 40])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_the_sum_of_float64_and_nothing_beside_it_is_written(shape: tuple[int, int], rank: int) -> None:
    base, B, A = parts(shape, rank)
    around = torch.full((GUARD + base.numel() + GUARD,), 7.0)
    live = around[GUARD:-GUARD].view(shape).fill_(float("nan"))
    kept = [tensor.clone() for tensor in (base, B, A)]
    planned_product(base, B, A, 0.37, live)()
    wanted = base.double() + 0.37 * (B.double() @ A.double())
    within = base.double().abs() + 0.37 * (B.double().abs() @ A.double().abs())  # what rounding is in proportion to
    assert ((live - wanted).abs() <= (rank + 2) * 2**-24 * within).all()
    assert (around[:GUARD] == 7).all() and (around[-GUARD:] == 7).all()  # noqa: PT018  # one fact
    assert all(torch.equal(now, then) for now, then in zip((base, B, A), kept, strict=True))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_have_the_same_bits_in_whatever_company(shape: tuple[int, int]) -> None:
    pytest.importorskip("llvmlite", reason='needs llvmlite: pip install "lensmount[llvm]"')
    base, B, A = parts(shape, 8)
    together, alone = torch.full(shape, 1e30), torch.full(shape, -1.0)
    kernel(8).planned(base, B, A, 1.0, together)()
    for row in range(len(base)):
        kernel(8).planned(base[row : row + 1], B[row : row + 1], A, 1.0, alone[row : row + 1])()
    assert torch.equal(together, alone)


def test_a_plan_holds_what_it_reads() -> None:
    base, B, A = parts((9, 24), 8)
    live, wanted = torch.empty(9, 24), torch.empty(9, 24)
    planned_product(base, B, A, 1.0, wanted)()

    plan = planned_product(base, B * 1.0, A * 1.0, 1.0, live)
    others = [torch.full((n,), float("nan")) for n in (9 * 8, 8 * 24) for _ in range(8)]  # where the factors were
    plan()

    assert len(others) == 16
    assert torch.equal(live, wanted)


def test_a_rank_that_is_less_than_the_kernels_is_filled_up_with_zeros() -> None:
    pytest.importorskip("llvmlite", reason='needs llvmlite: pip install "lensmount[llvm]"')
    base, B, A = parts((9, 21), 3)
    found = [torch.empty(9, 21) for _ in RANKS]
    for rank, live in zip(RANKS, found, strict=True):
        kernel(rank).planned(base, B, A, 2.0, live)()
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("why", ["no llvmlite", "broken llvmlite", "two threads", "high rank", "strided", "bfloat16"])
def test_where_one_pass_is_not_possible_torch_does_it_in_two(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("one pass")

    monkeypatch.setattr(OnePassAddmm, "planned", never)
    product._one_pass.cache_clear()
    base, B, A = parts((9, 24), 17 if why == "high rank" else 8)
    if why == "no llvmlite":
        monkeypatch.setitem(sys.modules, "lensmount_adapters.delta.addmm_kernel", None)
    if why == "broken llvmlite":
        broken = SimpleNamespace(compiled=lambda rank, rows: 1 / 0)
        monkeypatch.setitem(sys.modules, "lensmount_adapters.delta.addmm_kernel", broken)
    if why == "bfloat16":
        base = base.bfloat16()
    if why == "two threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    if why == "strided":
        base = base.t().contiguous().t()
    live, wanted = torch.empty(9, 24), torch.empty(9, 24)
    planned_product(base, B, A, 0.5, live)()
    in_two_steps(base, B, A, 0.5, wanted)
    product._one_pass.cache_clear()
    assert torch.equal(live, wanted)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_compiler_does_not_stay_in_memory_and_can_be_used_again() -> None:
    pytest.importorskip("llvmlite", reason='needs llvmlite: pip install "lensmount[llvm]"')
    kernel(4)
    again = OnePassAddmm(8)  # compiles anew with what was given back
    resident = 0  # kB
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        if "libllvmlite" in line:
            resident += int(next(one for one in lines if one.startswith("Rss:")).split()[1])
    assert resident < 20_000
    base, B, A = parts((9, 21), 8)
    live, wanted = torch.empty(9, 21), torch.empty(9, 21)
    again.planned(base, B, A, 1.0, live)()
    kernel(8).planned(base, B, A, 1.0, wanted)()
    assert torch.equal(live, wanted)
