"""The kernels on a CUDA device: what they write is what torch writes, in each precision."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lensmount_adapters.kernels.product import Product, merge_each

pytestmark = pytest.mark.gpu

BOUNDS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_a_grouped_merge_is_that_of_torch(dtype: torch.dtype) -> None:
    from lensmount_adapters.kernels.grouped_merge import GroupedMerge

    draw = torch.Generator("cuda").manual_seed(0)
    given = [
        Product(*(torch.randn(shape, generator=draw, device="cuda") for shape in ((o, c), (o, r), (r, c))))
        for o, c, r in ((512, 4608, 8), (256, 2304, 4), (1280, 320, 16), (3, 5, 1))
    ]
    ours, torchs = ([torch.empty_like(each.base, dtype=dtype) for each in given] for _ in range(2))
    GroupedMerge(given, ours)()
    merge_each(given, torchs)

    for a, b in zip(ours, torchs, strict=True):
        assert (a.float() - b.float()).abs().max() <= BOUNDS[dtype] * b.float().abs().max()


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 1), (1, 2)])
def test_a_mixed_term_is_that_of_torch(dtype: torch.dtype, kernel: int, stride: int) -> None:
    from lensmount_adapters.kernels.mixed_low_rank import Geometry, add_low_rank

    draw, padding = torch.Generator("cuda").manual_seed(0), kernel // 2
    x, A, B = (
        torch.randn(shape, generator=draw, device="cuda")
        for shape in ((16, 256, 14, 14), (64, 8, 256, kernel, kernel), (64, 512, 8))
    )
    rows = torch.arange(16, device="cuda") * 3
    hidden = torch.cat([F.conv2d(x[n : n + 1].double(), A[3 * n].double(), None, stride, padding) for n in range(16)])
    expected = torch.einsum("nrhw,nor->nohw", hidden, B[rows].double())
    x, A, B = (tensor.to(dtype) for tensor in (x.contiguous(memory_format=torch.channels_last), A, B))
    y = torch.zeros(expected.shape, dtype=dtype, device="cuda").contiguous(memory_format=torch.channels_last)
    found = add_low_rank(y, x, A, B, rows, Geometry((stride, stride), (padding, padding)))

    assert (found.double() - expected).abs().max() <= 2 * BOUNDS[dtype] * expected.abs().max()
