"""How the changes of several adapters become one: added, or merged by TIES or by DARE.

| class | merged change of one tensor | source |
|---|---|---|
| `Linear` | `sum w_i D_i` | task arithmetic, arXiv 2212.04089 |
| `Ties` | the mean of the largest values that have the sign of their sum | arXiv 2306.01708 |
| `Dare` | `sum w_i drop(D_i)`: values are dropped at random and the rest scaled up | arXiv 2311.03099 |

The statistics of BatchNorm are always added: they are means and variances, and not directions of training.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lensmount_adapters.errors import TrainingError


class Merging(Protocol):
    """Merges the changes of one tensor."""

    @property
    def name(self) -> str: ...

    def merge(self, target: str, changes: Tensor, weights: Tensor) -> Tensor:
        """`changes` [adapters, *shape] and `weights` [adapters] in float64 to one change [*shape]."""
        ...


class Linear:
    """The weighted sum. It is the only one that keeps low ranks low."""

    name = "linear"

    def merge(self, target: str, changes: Tensor, weights: Tensor) -> Tensor:
        return _sum(weights, changes)


@dataclass(frozen=True, slots=True)
class Ties:
    """Trim each change to its `density` largest values, elect a sign for each value, average those that agree.

    As in PEFT and mergekit, the values are trimmed tensor by tensor. A negative weight turns the change around first.
    """

    density: float
    name: str = "ties"

    def __post_init__(self) -> None:
        _check_density(self.density)

    def merge(self, target: str, changes: Tensor, weights: Tensor) -> Tensor:
        turned = changes * _over(weights.sign(), changes)
        trimmed = torch.stack([_largest(change, self.density) for change in turned])
        elected = torch.where(trimmed.sum(0) >= 0, 1, -1)
        agree = trimmed.sign() == elected
        merged: Tensor = (trimmed * _over(weights.abs(), changes) * agree).sum(0) / agree.sum(0).clamp(min=1)
        return merged


@dataclass(frozen=True, slots=True)
class Dare:
    """Keep each value with the probability `density` and divide it by this; the sum stays the same on average.

    The draws depend only on `seed` and the tensor's name, so the same command gives the same file.
    """

    density: float
    seed: int = 0
    name: str = "dare"

    def __post_init__(self) -> None:
        _check_density(self.density)

    def merge(self, target: str, changes: Tensor, weights: Tensor) -> Tensor:
        draw = self.generator(target)
        kept = torch.stack(
            [torch.bernoulli(torch.full_like(change, self.density), generator=draw) * change for change in changes]
        )
        return _sum(weights, kept / self.density)

    def generator(self, target: str) -> torch.Generator:
        """The source of randomness of one tensor."""
        return torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {target}".encode()))


def merged_change(merging: Merging, target: str, changes: Tensor, weights: Tensor) -> Tensor:
    """The merged change of one tensor; BatchNorm's statistics are added whatever the method."""
    if target.endswith(("running_mean", "running_var")):
        return Linear().merge(target, changes, weights)
    return merging.merge(target, changes, weights)


def _largest(change: Tensor, density: float) -> Tensor:
    """The change with all but its `density` largest values set to 0."""
    count = int(density * change.numel())
    kept = torch.zeros_like(change).flatten()
    at = change.abs().flatten().topk(count).indices
    kept[at] = change.flatten()[at]
    return kept.view(change.shape)


def _sum(weights: Tensor, changes: Tensor) -> Tensor:
    return (_over(weights, changes) * changes).sum(0)


def _over(weights: Tensor, changes: Tensor) -> Tensor:
    return weights.view(-1, *[1] * (changes.ndim - 1))


def _check_density(density: float) -> None:
    if not 0 < density <= 1:
        raise TrainingError(
            f"found --density {density:g}, expected a share above 0 and at most 1. Fix: --density 0.5, or --method "
            "linear to keep everything"
        )
