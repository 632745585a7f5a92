"""One launch adds every sample's own low-rank term as torch's convolutions do, in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

N, SLOTS, RANK, INPUTS, OUTPUTS = 2, 4, 5, 33, 65  # one more than a block each
ROWS = torch.tensor([2, 0])


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + shape[0]))


@pytest.mark.parametrize(
    ("kernel", "geometry", "layout"),
    [
        (3, {"padding": (1, 1)}, torch.channels_last),
        (3, {"stride": (2, 2), "padding": (1, 1)}, torch.contiguous_format),
        (3, {"stride": (2, 1), "dilation": (2, 2), "padding": (2, 2)}, torch.channels_last),
        (1, {}, torch.contiguous_format),
        (1, {"stride": (2, 2)}, torch.channels_last),
    ],
)
def test_each_sample_gets_the_term_of_its_slot(
    kernel: int, geometry: dict[str, Any], layout: torch.memory_format, interpreted: Callable[[str], ModuleType]
) -> None:
    kernels = interpreted("mixed_low_rank")
    x = draw(N, INPUTS, 7, 6).contiguous(memory_format=layout)
    A, B = draw(SLOTS, RANK, INPUTS, kernel, kernel), draw(SLOTS, OUTPUTS, RANK)
    A[1] = B[3] = float("inf")  # slots that no sample uses
    hidden = torch.cat([F.conv2d(x[n : n + 1].double(), A[row].double(), **geometry) for n, row in enumerate(ROWS)])
    expected = torch.einsum("nrhw,nor->nohw", hidden, B[ROWS].double())
    y = draw(*expected.shape).contiguous(memory_format=layout)
    found = kernels.add_low_rank(y, x, A, B, ROWS, kernels.Geometry(**geometry))

    assert found.stride() == y.stride()
    assert (found - (y + expected)).abs().max() <= 1e-5 * expected.abs().max()


def test_half_precision_is_summed_in_float32(interpreted: Callable[[str], ModuleType]) -> None:
    kernels = interpreted("mixed_low_rank")
    x, A, B = (
        tensor.half() for tensor in (draw(N, INPUTS, 7, 6), draw(SLOTS, RANK, INPUTS, 3, 3), draw(SLOTS, 8, RANK))
    )
    hidden = torch.cat([F.conv2d(x[n : n + 1].double(), A[row].double(), padding=1) for n, row in enumerate(ROWS)])
    expected = torch.einsum("nrhw,nor->nohw", hidden, B[ROWS].double())
    y = torch.zeros(expected.shape, dtype=torch.float16)
    found = kernels.add_low_rank(y, x, A, B, ROWS, kernels.Geometry(padding=(1, 1)))

    assert found.dtype is torch.float16
    assert (found - expected).abs().max() <= 2e-3 * expected.abs().max()
