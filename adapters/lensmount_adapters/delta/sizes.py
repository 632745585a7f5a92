"""How many numbers each form of a weight delta holds, and the ranks at which it stops being the smaller one.

With `C_in` and `C_out` channels, `K` places in the kernel (k^d), `g` groups and rank `r`:

| form | numbers |
|---|---|
| full weight | `C_out * C_in/g * K` |
| kxk+1x1: LoRA | `r * (C_in * K + C_out)` |
| 1x1, kxk, 1x1: CP/Tucker | `r * C_in/g + r^2 * K + r * C_out` |

A break-even rank is the smallest rank at which a form is no longer smaller than what it is compared with; every lower
rank is. Source: the seed "LoRA for convolutional networks".
"""

from __future__ import annotations

import math

from lensmount_adapters.backbone.target import Layer, Target


def full_size(target: Target) -> int:
    """The weight itself."""
    return math.prod(target.shape)


def low_rank_size(target: Target, rank: int) -> int:
    """kxk+1x1: the tensors of `fresh_low_rank`, for any layer that takes LoRA (of a linear one K is 1)."""
    return rank * _per_rank(target)


def tucker_size(target: Target, rank: int) -> int:
    """CP/Tucker: the tensors of `fresh_tucker`, for any convolution that is not transposed."""
    return rank * (target.shape[1] + target.out_features) + rank**2 * _places(target)


def low_rank_break_even(target: Target) -> int:
    """The rank at which kxk+1x1 is as large as the weight: `C_out C_in/g K / (C_in K + C_out)`, rounded up."""
    return _ceil_of(full_size(target), _per_rank(target))


def tucker_break_even(target: Target) -> int:
    """The rank at which CP/Tucker is as large as the weight: the root of `K r^2 + (C_in/g + C_out) r = full`."""
    linear, square = target.shape[1] + target.out_features, _places(target)
    root = (math.isqrt(linear**2 + 4 * square * full_size(target)) - linear) // (2 * square)  # rounded down
    return next(rank for rank in (root, root + 1) if tucker_size(target, rank) >= full_size(target))


def tucker_crossover(target: Target) -> int:
    """The rank at which CP/Tucker is as large as kxk+1x1: `C_in - C_in/(g K)`, rounded up; below it, it is smaller."""
    more_per_rank = _per_rank(target) - target.shape[1] - target.out_features  # C_in K - C_in/g
    return _ceil_of(more_per_rank, _places(target))


def takes_tucker(target: Target) -> bool:
    """Whether method lora-tucker uses the CP/Tucker form: a convolution whose kernel has more than one place."""
    return target.layer is Layer.CONV and _places(target) > 1


def trained_rank(target: Target, rank: int) -> int:
    """The rank that training gives the layer: a delta of more than full rank would only waste bytes."""
    return min(rank, target.out_features // target.groups, math.prod(target.shape[1:]))


def trained_size(target: Target, rank: int, *, tucker: bool) -> int:
    """What `lensmount train --rank` stores for the layer under method lora, or lora-tucker."""
    own = trained_rank(target, rank)
    return tucker_size(target, own) if tucker and takes_tucker(target) else low_rank_size(target, own)


def _per_rank(target: Target) -> int:
    """`C_in * K + C_out`, the inputs of all groups counted."""
    if target.layer is Layer.CONV_TRANSPOSED:
        return target.shape[0] * _places(target) + target.out_features
    return target.groups * math.prod(target.shape[1:]) + target.out_features


def _places(target: Target) -> int:
    return math.prod(target.shape[2:])


def _ceil_of(total: int, unit: int) -> int:
    return -(-total // unit)
