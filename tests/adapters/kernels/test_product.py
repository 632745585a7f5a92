"""What the kernels compute, by torch."""

from __future__ import annotations

import torch

from lensmount_adapters.kernels.product import Product, in_memory_order, merge_each


def test_each_weight_is_base_plus_product_in_its_own_dtype() -> None:
    given = [Product(torch.ones(2, 3), torch.ones(2, 1), torch.arange(3.0).view(1, 3))] * 2
    lives = [torch.empty(2, 3), torch.empty(2, 3, dtype=torch.bfloat16)]
    merge_each(given, lives)

    assert all(live.tolist() == [[1, 2, 3]] * 2 for live in lives)


def test_the_columns_are_those_of_a_weight_with_its_channels_last() -> None:
    weight = torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    matrix = in_memory_order(weight)

    assert matrix.data_ptr() == weight.data_ptr()
    assert torch.equal(matrix[1, :3], weight[1, :, 0, 0])
    assert torch.equal(in_memory_order(torch.eye(3)), torch.eye(3))
