"""How many numbers each form of a weight delta has, and from which rank on it saves nothing.

With `C_in` and `C_out` channels, `K` positions in the kernel (k^d), `g` groups and rank `r`:

| form | numbers |
|---|---|
| full weight | `C_out * C_in/g * K` |
| kxk+1x1: LoRA | `r * (C_in * K + C_out)` |
| 1x1, kxk, 1x1: CP/Tucker | `r * C_in/g + r^2 * K + r * C_out` |

A break-even rank is the smallest rank at which a form is no longer smaller than what it is compared with. At every
lower rank it is smaller. Source: the seed "LoRA for convolutional networks".
"""

from __future__ import annotations

import math

from lensmount_adapters.backbone.target import Layer, Target


def full_size(target: Target) -> int:
    """The size of the weight itself."""
    return math.prod(target.shape)


def full_rank(target: Target) -> int:
    """The rank of the weight itself as a matrix [out, in/g * K]: factors of this rank can store any delta of it."""
    return min(target.out_features, math.prod(target.shape[1:]))


def low_rank_size(target: Target, rank: int) -> int:
    """The size of kxk+1x1, the tensors of `fresh_low_rank`, for any layer that LoRA supports (K = 1 if linear)."""
    return rank * _per_rank(target)


def tucker_size(target: Target, rank: int) -> int:
    """The size of CP/Tucker, the tensors of `fresh_tucker`, for any convolution that is not transposed."""
    return rank * (target.shape[1] + target.out_features) + rank**2 * _kernel_positions(target)


def low_rank_break_even(target: Target) -> int:
    """The rank at which kxk+1x1 is as large as the weight: `C_out C_in/g K / (C_in K + C_out)`, rounded up."""
    return _ceil_of(full_size(target), _per_rank(target))


def tucker_break_even(target: Target) -> int:
    """The rank at which CP/Tucker is as large as the weight: the root of `K r^2 + (C_in/g + C_out) r = full`."""
    linear, square = target.shape[1] + target.out_features, _kernel_positions(target)
    root = (math.isqrt(linear**2 + 4 * square * full_size(target)) - linear) // (2 * square)  # rounded down
    return next(rank for rank in (root, root + 1) if tucker_size(target, rank) >= full_size(target))


def tucker_crossover(target: Target) -> int:
    """The rank at which CP/Tucker is as large as kxk+1x1: `C_in - C_in/(g K)`, rounded up; below that it is smaller."""
    more_per_rank = _per_rank(target) - target.shape[1] - target.out_features  # C_in K - C_in/g
    return _ceil_of(more_per_rank, _kernel_positions(target))


def takes_tucker(target: Target) -> bool:
    """Return True if method lora-tucker uses the CP/Tucker form: if the kernel has more than one position."""
    return target.layer is Layer.CONV and _kernel_positions(target) > 1


def trained_rank(target: Target, rank: int) -> int:
    """The rank that training uses for the layer: more than full rank would only waste bytes."""
    return min(rank, target.out_features // target.groups, math.prod(target.shape[1:]))


def trained_size(target: Target, rank: int, *, tucker: bool) -> int:
    """How many numbers `lensmount train --rank` stores for the layer with method lora or lora-tucker."""
    rank = trained_rank(target, rank)
    return tucker_size(target, rank) if tucker and takes_tucker(target) else low_rank_size(target, rank)


def _per_rank(target: Target) -> int:
    """`C_in * K + C_out`, which counts the inputs of all groups."""
    if target.layer is Layer.CONV_TRANSPOSED:
        return target.shape[0] * _kernel_positions(target) + target.out_features
    return target.groups * math.prod(target.shape[1:]) + target.out_features


def _kernel_positions(target: Target) -> int:
    return math.prod(target.shape[2:])


def _ceil_of(total: int, unit: int) -> int:
    return -(-total // unit)
