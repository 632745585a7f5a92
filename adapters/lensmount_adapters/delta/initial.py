"""New deltas for training to start from."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.kinds import Additive, GroupedLowRank, LowRank, Sum, TransposedLowRank, Tucker


def fresh_low_rank(
    target: Target, rank: int, scale: float, generator: torch.Generator, std: float | None = None, b_std: float = 0.0
) -> Sum:
    """A new low-rank delta for training. A is random and B is zero, so the delta is zero.

    If `std` is None, A is drawn as `torch.nn.Linear` draws its weight (Kaiming uniform); otherwise from N(0, std^2). If
    `b_std` is not zero, B is drawn from N(0, b_std^2).
    """
    ones = (1,) * (len(target.shape) - 2)
    B = _initial_b((target.out_features, rank, *ones), generator, b_std)
    if target.layer is Layer.CONV_TRANSPOSED:
        return TransposedLowRank(target, _random((target.shape[0], rank, *target.shape[2:]), generator, std), B, scale)
    if target.groups > 1:
        A = _random((target.groups * rank, *target.shape[1:]), generator, std)
        return GroupedLowRank(target, A, B, scale)
    return LowRank(target, _random((rank, *target.shape[1:]), generator, std), B, scale)


def fresh_tucker(
    target: Target, rank: int, scale: float, generator: torch.Generator, std: float | None = None, b_std: float = 0.0
) -> Tucker:
    """A new CP/Tucker delta for training. A and mid are drawn as A is in `fresh_low_rank`, B as B is there."""
    ones = (1,) * (len(target.shape) - 2)
    A = _random((rank, target.shape[1], *ones), generator, std)
    mid = _random((rank, rank, *target.shape[2:]), generator, std)
    return Tucker(target, A, mid, _initial_b((target.out_features, rank, *ones), generator, b_std), scale)


def fresh_additive(target: Target) -> Additive:
    """A new full delta for training; it is zero."""
    return Additive(target, torch.zeros(target.shape))


def _initial_b(shape: tuple[int, ...], generator: torch.Generator, std: float) -> Tensor:
    B = torch.zeros(shape)
    return B.normal_(0, std, generator=generator) if std else B


def _random(shape: tuple[int, ...], generator: torch.Generator, std: float | None) -> Tensor:
    if std is not None:
        return torch.empty(shape).normal_(0, std, generator=generator)
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
