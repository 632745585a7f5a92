"""A small network for the tests of executors, with the layers and the weights that branches have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

SHAPES = ((16, 12, 3, 3), (16,), (16, 1, 3, 3), (10, 16), (10,))


class Branch(nn.Module):
    """A small branch: in-place activations before everything, constants, and kernels and matrices as inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ReLU(inplace=True)
        self.constant = nn.Conv2d(8, 12, 3, padding=1)

    def forward(
        self, x: Tensor, mask: Tensor, kernel: Tensor, shift: Tensor, depthwise: Tensor, matrix: Tensor, bias: Tensor
    ) -> Tensor:
        x = self.first(self.constant(self.first(x)))  # [N, 12, H, W]
        x = F.relu6(F.conv2d(x, kernel, shift, stride=2, padding=1))  # [N, 16, H / 2, W / 2]
        x = F.conv2d(x, depthwise, None, padding=1, groups=16)
        return F.linear(x.mean((2, 3)), matrix, bias) * mask  # [N, 10]


class SmallNet:
    """The traced branch with weights and inputs drawn from a seed, and its results in float64."""

    def module(self) -> fx.GraphModule:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return fx.symbolic_trace(Branch()).eval().requires_grad_(False)

    def weights(self, seed: int) -> tuple[Tensor, ...]:
        draw = torch.Generator().manual_seed(seed)
        return tuple(torch.randn(shape, generator=draw) / 2 for shape in SHAPES)

    def inputs(self, batch: int = 4, height: int = 14, width: int = 14, seed: int = 0) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(seed)
        return torch.randn(batch, 8, height, width, generator=draw), torch.rand(batch, 10, generator=draw)

    def in_float64(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        output: Tensor = self.module().double()(*(tensor.double() for tensor in (*inputs, *weights)))
        return output


@pytest.fixture(scope="session")
def small_net() -> SmallNet:
    return SmallNet()


@pytest.fixture(scope="module")
def quick_inductor() -> Iterator[None]:
    """TorchInductor otherwise builds a library for each kind of vector, and loads it in a process with torch: 15 s."""
    from torch._inductor import config

    with config.patch({"cpp.vec_isa_ok": True}):
        yield
