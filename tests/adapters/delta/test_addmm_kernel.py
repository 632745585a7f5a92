"""The one-pass kernels: the same bits for a row in any group of rows, any larger rank, and the compiler's memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lensmount_adapters.delta.addmm import RANKS

pytest.importorskip("llvmlite", reason='needs llvmlite: pip install "lensmount[llvm]"')

from lensmount_adapters.delta.addmm_kernel import LONG_ROWS, OnePassAddmm

SHAPES = [(1, 1), (3, 7), (8, 8), (9, 16), (17, 31), (64, 112), (5, LONG_ROWS), (8, LONG_ROWS + 3), (33, LONG_ROWS + 8)]


@pytest.fixture(scope="module")
def kernels() -> dict[int, OnePassAddmm]:
    return {rank: OnePassAddmm(rank) for rank in RANKS}


def random_parts(shape: tuple[int, int], rank: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(rank)
    rows, columns = shape
    sizes = ((rows, columns), (rows, rank), (rank, columns))
    base, B, A = (torch.randn(size, generator=draw) for size in sizes)
    return base, B, A


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_row_has_the_same_bits_alone_and_in_any_group_of_rows(
    shape: tuple[int, int], kernels: dict[int, OnePassAddmm]
) -> None:
    base, B, A = random_parts(shape, 8)
    together, alone = torch.full(shape, 1e30), torch.full(shape, -1.0)
    kernels[8].planned(base, B, A, 1.0, together)()
    for row in range(len(base)):
        kernels[8].planned(base[row : row + 1], B[row : row + 1], A, 1.0, alone[row : row + 1])()
    assert torch.equal(together, alone)


def test_a_rank_below_the_kernel_s_is_padded_with_zeros(kernels: dict[int, OnePassAddmm]) -> None:
    base, B, A = random_parts((9, 21), 3)
    found = [torch.empty(9, 21) for _ in RANKS]
    for rank, live in zip(RANKS, found, strict=True):
        kernels[rank].planned(base, B, A, 2.0, live)()
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_compiler_does_not_stay_in_memory_and_can_be_used_again(kernels: dict[int, OnePassAddmm]) -> None:
    again = OnePassAddmm(8)  # compiles after the compiler's memory was given back
    private, inside = 0, False  # kB that this process alone holds: pages shared with another process stay mapped
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.partition(" ")[0].endswith(":"):  # the head of a mapping
            inside = "libllvmlite" in line
        elif inside and line.startswith("Private_"):
            private += int(line.split()[1])
    assert private < 20_000
    base, B, A = random_parts((9, 21), 8)
    live, expected = torch.empty(9, 21), torch.empty(9, 21)
    again.planned(base, B, A, 1.0, live)()
    kernels[8].planned(base, B, A, 1.0, expected)()
    assert torch.equal(live, expected)
