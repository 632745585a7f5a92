"""Convolutions in int8 compute what the rounding of their weights and activations says, and no other layer changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from lensmount_adapters.programs.int8_layers import _with_zero
from lensmount_adapters.programs.openvino import OpenVino

KERNEL, DEPTHWISE, MATRIX = 0, 2, 3  # of the small network's weights


class Grouped(nn.Module):
    def forward(self, x: Tensor, wide: Tensor, grouped: Tensor) -> Tensor:
        return F.conv2d(F.relu(F.conv2d(x, weight=wide, padding=1)), weight=grouped, groups=4)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 6.0), (-1.0, 2.0), (-1e-9, 6.0), (-3.0, 0.0), (-3.0, -1.0), (2.0, 5.0), (0.0, 0.0)]
)
def test_zero_is_a_level_of_every_range(low: float, high: float) -> None:
    below, above = _with_zero(low, high)
    step = (above - below) / 255
    assert below <= min(low, 0.0) + 1e-12
    assert above >= high
    assert step > 0
    assert abs(below / step - round(below / step)) < 1e-6


def rounded(x: Tensor, low: float, high: float) -> Tensor:
    """The nearest of 256 levels between two bounds, one of which is zero here."""
    step = (high - low) / 255
    return (x.clamp(low, high) / step).round() * step


def rounded_weight(weight: Tensor) -> Tensor:
    """The nearest of 255 levels of each output channel, in float64."""
    step = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True) / 127
    return (weight / step).round() * step


def test_a_layer_with_a_range_rounds_its_weights_and_what_enters_it(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(4, 6, 12, 12, generator=draw)
    wide, grouped = torch.randn(8, 6, 3, 3, generator=draw) / 7, torch.randn(12, 2, 3, 3, generator=draw) / 4
    compiled = OpenVino(cache=tmp_path).compile(fx.symbolic_trace(Grouped()), (x[:2],), (wide, grouped), "grouped")
    program = compiled.bind_int8([wide, grouped], {0: (0.0, 1.0), 1: (0.0, 4.0)}, [x.shape])
    between = F.relu(F.conv2d(rounded(x.double(), 0, 1), rounded_weight(wide.double()), padding=1))
    expected = F.conv2d(rounded(between, 0, 4), rounded_weight(grouped.double()), groups=4)

    error = (program(x).double() - expected).abs()

    float_error = (compiled.bind([wide, grouped])(x).double() - expected).abs()
    assert error.mean() < 0.01 * float_error.mean()


def test_layers_without_a_range_and_other_layers_are_as_without_int8(small_net: Any, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    weights = small_net.weights(1)
    compiled = OpenVino(cache=tmp_path).compile(small_net.module(), small_net.inputs(2), small_net.weights(0), "net")
    plain = compiled.bind(weights)(*small_net.inputs())

    for ranges in ({}, {MATRIX: (0.0, 1.0)}, {1: (0.0, 1.0)}):
        assert torch.equal(compiled.bind_int8(weights, ranges)(*small_net.inputs()), plain)
    some = compiled.bind_int8(weights, {KERNEL: (0.0, 6.0), DEPTHWISE: (0.0, 6.0)})(*small_net.inputs())

    assert not torch.equal(some, plain)
    assert (some - plain).abs().max() <= 0.1 * plain.abs().max()
    assert all(torch.equal(weight, same) for weight, same in zip(weights, small_net.weights(1), strict=True))
