"""The sites of a branch are the calls that a mixed batch can change, with their arguments by torch's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lensmount_adapters import Backbone, Preprocessing
from lensmount_adapters.graph.functional import FunctionalBranch, functional_branch
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.graph.sites import owners, sites_of

RULE = Preprocessing(size=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class Net(nn.Module):
    """A layer that runs twice, a depthwise one, a transposed one, and one that the images do not reach."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.norm = nn.Conv2d(3, 3, 1, stride=1), nn.BatchNorm2d(3)
        self.depthwise = nn.Conv2d(3, 6, 3, padding=1, groups=3)
        self.upwards = nn.ConvTranspose2d(6, 6, 2)
        self.linear, self.unreached = nn.Linear(6, 4), nn.Linear(2, 4)
        self.register_buffer("positions", torch.ones(1, 2))
        self.pretrained_cfg: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.depthwise(F.relu(self.twice(F.relu(self.twice(x))))).unflatten(1, (2, 3)).sum(1))
        x = self.upwards(x.repeat(1, 2, 1, 1)).mean((2, 3))
        features: Tensor = self.linear(x) + self.unreached(self.positions)
        return features


@pytest.fixture(scope="module")
def branch(randomised: Callable[[Backbone], Backbone]) -> FunctionalBranch:
    backbone = randomised(Backbone("net", Net(), RULE, torch.float32))
    return functional_branch(Segments(backbone.module).halves(set(backbone.targets)).branch, backbone)


def test_a_site_has_every_call_of_its_layer(branch: FunctionalBranch) -> None:
    sites = sites_of(branch, ["twice", "depthwise", "linear"])

    assert sites is not None
    assert {name: len(site.calls) for name, site in sites.items()} == {"twice": 2, "depthwise": 1, "linear": 1}
    assert {name: site.groups for name, site in sites.items()} == {"twice": 1, "depthwise": 3, "linear": 1}
    (call,) = sites["depthwise"].calls
    assert call.function is F.conv2d
    assert call.geometry == {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 3}
    assert (call.dim, sites["linear"].calls[0].dim) == (1, -1)


def test_only_a_kernel_of_one_position_without_padding_has_a_stride_of_its_own(branch: FunctionalBranch) -> None:
    sites = sites_of(branch, ["twice", "depthwise"])

    assert sites is not None
    assert sites["twice"].calls[0].stride_of_one(torch.ones(3, 3, 1, 1)) == (1, 1)
    assert sites["twice"].calls[0].stride_of_one(torch.ones(3, 3, 2, 1)) is None
    assert sites["depthwise"].calls[0].stride_of_one(torch.ones(6, 1, 1, 1)) is None  # it is padded


def test_a_norm_that_was_not_folded_gives_its_tensors_and_its_eps(branch: FunctionalBranch) -> None:
    sites = sites_of(branch, ["norm"])

    assert sites is not None
    values = dict(zip(branch.inputs, branch.base, strict=True))
    *tensors, eps = sites["norm"].norm_tensors(values)
    names = ("running_mean", "running_var", "weight", "bias")
    assert all(torch.equal(tensor, values[f"norm.{name}"]) for tensor, name in zip(tensors, names, strict=True))
    assert eps == 1e-5


@pytest.mark.parametrize("module", ["upwards", "unreached", "elsewhere"])
def test_a_layer_that_a_mixed_batch_cannot_change_has_no_site(module: str, branch: FunctionalBranch) -> None:
    assert sites_of(branch, ["linear", module]) is None


def test_a_folded_norm_belongs_to_its_convolution(every_layer: Callable[..., Backbone]) -> None:
    backbone = every_layer()
    branch = functional_branch(Segments(backbone.module).halves(set(backbone.targets)).branch, backbone)

    assert owners(branch)["batch_norm2d"] == "conv2d"
    assert owners(branch)["linear"] == "linear"
