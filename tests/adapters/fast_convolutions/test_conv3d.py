"""Convolutions of volumes, computed slice by slice."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lensmount_adapters.fast_convolutions.conv3d import SlicewiseConv3d


@pytest.mark.parametrize(("depth", "stride", "groups"), [(3, 1, 1), (3, 2, 8), (1, 2, 1), (5, 1, 2)])
def test_a_convolution_slice_by_slice_is_the_convolution_and_so_are_its_gradients(
    depth: int, stride: int, groups: int
) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 6, 9, 10, generator=draw, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(16, 8 // groups, depth, 3, 3, generator=draw, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(16, generator=draw, dtype=torch.float64, requires_grad=True)
    geometry = ((1, stride, stride), (depth // 2, 1, 1), 1, groups)
    plain = F.conv3d(x, weight, bias, *geometry)
    expected = torch.autograd.grad(plain.square().sum(), (x, weight, bias))

    with SlicewiseConv3d():
        found = F.conv3d(x, weight, bias, *geometry)
    gradients = torch.autograd.grad(found.square().sum(), (x, weight, bias))

    torch.testing.assert_close(found, plain)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_other_depths_strides_and_kernels_are_left_to_torch() -> None:
    x, weight = torch.randn(1, 2, 6, 5, 5), torch.randn(2, 2, 3, 3, 3)
    for options in ({"stride": 2, "padding": 1}, {"padding": "valid"}, {"dilation": 2, "padding": 2}, {}):
        with SlicewiseConv3d():
            found = F.conv3d(x, weight, **options)
        assert torch.equal(found, F.conv3d(x, weight, **options))
