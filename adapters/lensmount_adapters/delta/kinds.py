"""What an adapter adds to one backbone tensor: `live = base + delta`, one small class per kind of delta.

| class | layer | delta |
|---|---|---|
| `LowRank` | Linear, Conv1d/2d/3d (any stride, padding, dilation; groups and depthwise with a shared A) | `s * B @ A` |
| `GroupedLowRank` | Conv with groups, separate factors per group | `s * B_g @ A_g` |
| `TransposedLowRank` | ConvTranspose1d/2d/3d, with or without groups | `s * A_g @ B_g^T` |
| `Tucker` | Linear-free Conv, CP/Tucker form 1x1, kxk, 1x1 | `s * einsum(B, mid, A)` |
| `Additive` | any tensor: bias, norm, BatchNorm statistics, a whole matrix or kernel, a token | the tensor itself |

Each of them is a `Sum`. delta/scaled.py has the one kind that is not.

A convolution's delta is a matrix product of the flattened factors, never a convolution of kernels: the product is 14
times faster and gives the same bits. Sources: LoRA, arXiv 2106.09685; CP/Tucker form, LyCORIS (arXiv 2309.14859) and
the seed "LoRA for convolutional networks"; BitFit, arXiv 2106.10199.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.addmm import planned_product
from lensmount_adapters.errors import AdapterInvalid


class Delta(Protocol):
    """What one adapter adds to one backbone tensor."""

    @property
    def target(self) -> Target: ...

    @property
    def rank(self) -> int | None:
        """The rank of a low-rank delta; None for a full one."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors under their names in the adapter file."""
        ...

    def merged(self, base: Tensor) -> Tensor:
        """`base + delta` in float32, a new tensor, differentiable with respect to the stored tensors."""
        ...

    def write(self, base: Tensor, live: Tensor) -> None:
        """Write `base + delta` into `live`, computed in float32 and rounded once to the dtype of `live`."""
        ...


class Sum(Delta, Protocol):
    """A delta that does not depend on the base."""

    def dense(self) -> Tensor:
        """The delta as one float32 tensor of the target's shape, differentiable with respect to the stored tensors."""
        ...


def planned(delta: Delta, base: Tensor, live: Tensor) -> Callable[[], None]:
    """A function that does `delta.write(base, live)`. Callers plan many deltas before they call the first plan."""
    return delta.planned(base, live) if isinstance(delta, LowRank) else partial(delta.write, base, live)


class _Added(ABC):
    """What every `Sum` has in common."""

    __slots__ = ()

    @abstractmethod
    def dense(self) -> Tensor: ...

    def merged(self, base: Tensor) -> Tensor:
        return base.float() + self.dense()


@dataclass(frozen=True, slots=True, eq=False)
class _Factored(_Added):
    """Two factors and their scale, which is `alpha / rank`."""

    target: Target
    A: Tensor
    B: Tensor
    scale: float

    @property
    def rank(self) -> int:
        return self.B.shape[1]

    def tensors(self) -> dict[str, Tensor]:
        return {f"{self.target.path}.lora_A.weight": self.A, f"{self.target.path}.lora_B.weight": self.B}


@dataclass(frozen=True, slots=True, eq=False)
class LowRank(_Factored):
    """LoRA on a Linear or ConvNd weight: A reduces to `r` channels with the full kernel, B is pointwise.

    A: [r, in/groups, *k], B: [out, r, *1]. With groups, all groups share A (the layout of LyCORIS).
    """

    def dense(self) -> Tensor:
        return (self.scale * (_matrix(self.B) @ _matrix(self.A))).view(self.target.shape)

    def write(self, base: Tensor, live: Tensor) -> None:
        self.planned(base, live)()

    def planned(self, base: Tensor, live: Tensor) -> Callable[[], None]:
        """Do the preparation for `write`; calling the result writes."""
        if live.dtype is torch.float32:
            return planned_product(base, self.B.float(), self.A.float(), self.scale, live)
        return partial(self._write_rounded, base, live)

    def _write_rounded(self, base: Tensor, live: Tensor) -> None:
        base2d = base.view(base.shape[0], -1).float()  # [out, in/groups * k]
        live.view(base2d.shape).copy_(torch.addmm(base2d, _matrix(self.B), _matrix(self.A), alpha=self.scale))


@dataclass(frozen=True, slots=True, eq=False)
class _BlockLowRank(_Factored):
    """A weight of `n` blocks, each the product of its own two factors; the base of the two classes below."""

    @abstractmethod
    def blocks(self) -> tuple[Tensor, Tensor]:
        """The factors of the blocks in float32: [n, rows, r] and [n, r, columns]."""

    def dense(self) -> Tensor:
        return (self.scale * torch.bmm(*self.blocks())).view(self.target.shape)

    def write(self, base: Tensor, live: Tensor) -> None:
        B, A = self.blocks()
        shape = (B.shape[0], B.shape[1], A.shape[2])  # [n, rows, columns]
        if live.dtype is torch.float32:
            torch.baddbmm(base.view(shape), B, A, alpha=self.scale, out=live.view(shape))
        else:
            live.view(shape).copy_(torch.baddbmm(base.view(shape).float(), B, A, alpha=self.scale))


@dataclass(frozen=True, slots=True, eq=False)
class GroupedLowRank(_BlockLowRank):
    """LoRA on a grouped or depthwise ConvNd weight, with separate factors per group.

    A: [groups * r, in/groups, *k], B: [out, r, *1]: the weights of two grouped convolutions applied in turn.
    """

    def blocks(self) -> tuple[Tensor, Tensor]:
        groups = self.target.groups
        A = self.A.float().reshape(groups, self.rank, -1)  # [g, r, in/g * k]
        B = self.B.float().reshape(groups, -1, self.rank)  # [g, out/g, r]
        return B, A


@dataclass(frozen=True, slots=True, eq=False)
class TransposedLowRank(_BlockLowRank):
    """LoRA on a ConvTransposeNd weight: a transposed convolution to `r` channels, then a pointwise convolution.

    A: [in, r, *k], B: [out, r, *1]. With groups, A_g has in/g rows and B_g has out/g rows.
    """

    def blocks(self) -> tuple[Tensor, Tensor]:
        groups, inputs = self.target.groups, self.A.shape[0]
        A = self.A.float().flatten(2)  # [in, r, k]
        B = self.B.float().reshape(groups, -1, self.rank)  # [g, out/g, r]
        return B.repeat_interleave(inputs // groups, dim=0), A  # each input channel reaches the outputs of its group


@dataclass(frozen=True, slots=True, eq=False)
class Tucker(_Added):
    """LoRA on a ConvNd weight in CP/Tucker form: pointwise to `r` channels, kxk on `r` channels, pointwise to `out`.

    A: [r, in/groups, *1], mid: [r, r, *k], B: [out, r, *1].
    """

    target: Target
    A: Tensor
    mid: Tensor
    B: Tensor
    scale: float

    @property
    def rank(self) -> int:
        return self.B.shape[1]

    def tensors(self) -> dict[str, Tensor]:
        path = self.target.path
        return {
            f"{path}.lora_A.weight": self.A,
            f"{path}.lora_mid.weight": self.mid,
            f"{path}.lora_B.weight": self.B,
        }

    def dense(self) -> Tensor:
        return self.folded().dense()

    def write(self, base: Tensor, live: Tensor) -> None:
        self.folded().write(base, live)

    def folded(self) -> LowRank:
        """The same delta with `mid` folded into A: a plain low-rank delta of the same rank."""
        mid = self.mid.float().flatten(2)  # [p, q, k]
        A = torch.einsum("pqk,qi->pik", mid, _matrix(self.A))  # [r, in/groups, k]
        return LowRank(self.target, A, self.B, self.scale)


@dataclass(frozen=True, slots=True, eq=False)
class Additive(_Added):
    """A full delta, without factors: BitFit's bias, norms, BatchNorm statistics, whole matrices and kernels."""

    target: Target
    delta: Tensor

    @property
    def rank(self) -> None:
        return None

    def tensors(self) -> dict[str, Tensor]:
        return {f"{self.target.name}.delta": self.delta}

    def dense(self) -> Tensor:
        return self.delta.float()

    def write(self, base: Tensor, live: Tensor) -> None:
        live.copy_(base.float() + self.delta.float())


def low_rank(target: Target, A: Tensor, B: Tensor, scale: float) -> Sum:
    """The low-rank delta of the class that matches the target's layer and the factors' shapes.

    Raises AdapterInvalid (`adapter_shape_mismatch`) if the factors do not fit the backbone.
    """
    rank, ndim = _rank(target, B), len(target.shape)
    ones = (1,) * (ndim - 2)
    kernel = target.shape[2:]
    expect_shape(target, "lora_B", B, (target.out_features, rank, *ones))
    if target.layer is Layer.CONV_TRANSPOSED:
        expect_shape(target, "lora_A", A, (target.shape[0], rank, *kernel))
        return TransposedLowRank(target, A, B, scale)
    if target.groups > 1 and A.shape[0] == target.groups * rank:
        expect_shape(target, "lora_A", A, (target.groups * rank, target.shape[1], *kernel))
        return GroupedLowRank(target, A, B, scale)
    expect_shape(target, "lora_A", A, (rank, *target.shape[1:]))
    return LowRank(target, A, B, scale)


def tucker(target: Target, A: Tensor, mid: Tensor, B: Tensor, scale: float) -> Tucker:
    """The CP/Tucker delta. Raises AdapterInvalid if it does not fit the backbone."""
    if target.layer is not Layer.CONV:
        raise AdapterInvalid(
            f"{target.path}: found lora_mid for a {target.layer} layer, expected a convolution. "
            "Fix: use method lora for this layer",
            code="adapter_shape_mismatch",
        )
    rank = _rank(target, B)
    ones = (1,) * (len(target.shape) - 2)
    expect_shape(target, "lora_B", B, (target.out_features, rank, *ones))
    expect_shape(target, "lora_mid", mid, (rank, rank, *target.shape[2:]))
    expect_shape(target, "lora_A", A, (rank, target.shape[1], *ones))
    return Tucker(target, A, mid, B, scale)


def additive(target: Target, delta: Tensor) -> Additive:
    """The full delta. Raises AdapterInvalid if it does not fit the backbone."""
    expect_shape(target, "delta", delta, target.shape)
    return Additive(target, delta)


def _matrix(factor: Tensor) -> Tensor:
    """[a, b, *k] -> [a, b * k] in float32."""
    return factor.float().flatten(1)


def _rank(target: Target, B: Tensor) -> int:
    if B.ndim != len(target.shape) or B.shape[1] == 0:
        raise AdapterInvalid(
            f"{target.path}: found lora_B of shape {list(B.shape)}, expected {len(target.shape)} dimensions "
            "and a rank of at least 1. Fix: store it as [out, rank] with a 1 for each size of the kernel",
            code="adapter_shape_mismatch",
        )
    return B.shape[1]


def expect_shape(target: Target, part: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Check the shape of one stored tensor. Raises AdapterInvalid (`adapter_shape_mismatch`)."""
    if tuple(tensor.shape) != shape:
        raise AdapterInvalid(
            f"{target.path}: found {part} of shape {list(tensor.shape)}, expected {list(shape)} for the backbone's "
            f"{target.layer} weight {list(target.shape)}. Fix: train the adapter for this backbone",
            code="adapter_shape_mismatch",
        )
