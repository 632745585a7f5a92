"""A cast copy of a module computes in its precision, with the channels last, and shares nothing with the original."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, fx, nn

from lensmount_adapters.programs.cast import Cast, channels_last

CPU = torch.device("cpu")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu, self.conv = nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        features: Tensor = self.conv(self.relu(x)).mean((2, 3)) @ weight
        return features


class Writing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2)


def test_four_and_five_dimensions_have_their_channels_last_in_memory() -> None:
    image, volume, matrix = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5, 6), torch.randn(4, 5)

    assert channels_last(image).stride() == (60, 1, 15, 3)
    assert channels_last(volume).is_contiguous(memory_format=torch.channels_last_3d)
    assert channels_last(matrix) is matrix
    assert torch.equal(channels_last(image), image)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_module_inputs_and_weights_are_cast_and_the_originals_stay_as_they_are(dtype: torch.dtype) -> None:
    module, weight, x = fx.symbolic_trace(Net()), torch.randn(4, 2), torch.randn(2, 3, 6, 6)
    before = copy.deepcopy((module.state_dict(), weight, x))
    cast = Cast(module, [weight], CPU, dtype)

    with torch.inference_mode():
        features = cast.module(*cast.inputs([x]), *cast.weights([weight]))
        expected = module(x.clone(), weight)

    assert features.dtype is dtype
    torch.testing.assert_close(features.float(), expected, rtol=0.05, atol=0.05)
    torch.testing.assert_close((module.state_dict(), weight, x), before, rtol=0, atol=0)
    assert cast.module.get_parameter("conv.weight").is_contiguous(memory_format=torch.channels_last)
    assert cast.nbytes([weight]) == 8 * dtype.itemsize


def test_the_base_s_own_weights_are_cast_once_and_others_each_time() -> None:
    base = torch.randn(4, 2)
    cast = Cast(fx.symbolic_trace(Net()), [base], CPU, torch.float32)

    (first,), (again,) = cast.weights([base]), cast.weights([base])
    (other,) = cast.weights([base.clone()])

    assert first is again
    assert first.data_ptr() != base.data_ptr()  # the caller may write to its own
    assert torch.equal(first, other)
    assert other is not first


def test_a_module_that_writes_to_its_input_gets_a_copy() -> None:
    x = torch.ones(2, 3)
    cast = Cast(fx.symbolic_trace(Writing()), [], CPU, torch.float32)

    with torch.inference_mode():
        assert torch.equal(cast.module(*cast.inputs([x])), torch.full((2, 3), 2.0))
    assert torch.equal(x, torch.ones(2, 3))
