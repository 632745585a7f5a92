"""One launch merges every weight as torch does one by one, in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from lensmount_adapters.kernels.product import Product, merge_each

SHAPES = [(40, 3, 3, 3, 4), (17, 130, 1, 1, 8), (5, 7, 1, 1, 1)]  # out, in, kernel, rank


def products(scale: float = 1.0) -> list[Product]:
    draw = torch.Generator().manual_seed(0)
    made = []
    for out, inputs, height, width, rank in SHAPES:
        columns = inputs * height * width
        base, B, A = (torch.randn(shape, generator=draw) for shape in ((out, columns), (out, rank), (rank, columns)))
        made.append(Product(base, scale * B, A))
    return made


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-7), (torch.float16, 2**-10), (torch.bfloat16, 2**-7)])
def test_every_weight_is_base_plus_product_rounded_once(
    dtype: torch.dtype, bound: float, interpreted: Callable[[str], ModuleType]
) -> None:
    given = products()
    lives = [torch.full_like(each.base, float("nan"), dtype=dtype) for each in given]
    interpreted("grouped_merge").GroupedMerge(given, lives)()

    for each, live in zip(given, lives, strict=True):
        exact = each.base.double() + each.B.double() @ each.A.double()
        assert ((live.double() - exact).abs() <= bound * (exact.abs() + 10)).all()


def test_the_bits_do_not_depend_on_what_was_there_and_torch_gives_the_same_sums(
    interpreted: Callable[[str], ModuleType],
) -> None:
    given = products()
    ours, again, torchs = ([torch.randn_like(each.base) for each in given] for _ in range(3))
    merge = interpreted("grouped_merge").GroupedMerge
    merge(given, ours)()
    merge(products(3.0), again)()
    merge(given, again)()
    merge_each(given, torchs)

    assert all(torch.equal(*pair) for pair in zip(ours, again, strict=True))
    assert all(torch.allclose(*pair, rtol=1e-5, atol=1e-6) for pair in zip(ours, torchs, strict=True))
