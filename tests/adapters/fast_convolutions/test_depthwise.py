"""Depthwise convolutions with a stride, computed without it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lensmount_adapters.fast_convolutions.depthwise import UnstridedDepthwise


@pytest.mark.parametrize(("stride", "kernel"), [(2, 5), (2, 3), ((2, 1), 3)])
def test_an_unstrided_depthwise_convolution_has_the_values_and_gradients_of_the_strided_one(
    stride: int | tuple[int, int], kernel: int
) -> None:
    layer = nn.Conv2d(6, 6, kernel, stride=stride, padding=kernel // 2, groups=6, dtype=torch.float64)
    x = torch.randn(2, 6, 11, 14, dtype=torch.float64, requires_grad=True)
    expected = layer(x)
    gradient = torch.autograd.grad(expected.square().sum(), x)[0]

    with UnstridedDepthwise():
        found = layer(x)

    assert "Slice" in found.grad_fn.name()  # the replacement was used
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), x)[0], gradient)
