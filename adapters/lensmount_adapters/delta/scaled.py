"""A weight with a factor for each output and each input: `live = c_out * (W + delta) * c_in`.

`delta` is any other delta of the same tensor, or none. This is the merged form of DoRA (arXiv 2402.09353), whose
`c_out = magnitude / |W + s B A|` is one number per output, and of IA3 (arXiv 2205.05638). A factor is stored as it is
and not as its difference from 1, so a factor of 1 changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.kinds import Delta, expect_shape


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """`Scaled(target, low_rank, row_scale=c_out)`.

    row_scale: [out]; column_scale: [in/groups], the second dimension of the weight. Of a transposed convolution they
    are [out] and [in].
    """

    target: Target
    inner: Delta | None
    row_scale: Tensor | None = None
    column_scale: Tensor | None = None

    @property
    def rank(self) -> int | None:
        return None if self.inner is None else self.inner.rank

    def tensors(self) -> dict[str, Tensor]:
        inner = {} if self.inner is None else self.inner.tensors()
        scales = {"row_scale": self.row_scale, "column_scale": self.column_scale}
        return inner | {f"{self.target.name}.{part}": scale for part, scale in scales.items() if scale is not None}

    def merged(self, base: Tensor) -> Tensor:
        live = base.float() if self.inner is None else self.inner.merged(base)
        for factor in self._factors():
            live = live * factor
        return live

    def write(self, base: Tensor, live: Tensor) -> None:
        exact = live if live.dtype is torch.float32 else torch.empty_like(base, dtype=torch.float32)
        if self.inner is None:
            exact.copy_(base)
        else:
            self.inner.write(base.float(), exact)
        for factor in self._factors():
            exact.mul_(factor)
        if exact is not live:
            live.copy_(exact)

    def _factors(self) -> list[Tensor]:
        """The factors that are stored, in shapes that can be broadcast over the weight."""
        rows = None if self.row_scale is None else by_output(self.target, self.row_scale.float())
        columns = None if self.column_scale is None else by_input(self.target, self.column_scale.float())
        return [factor for factor in (rows, columns) if factor is not None]


def scaled(target: Target, inner: Delta | None, row_scale: Tensor | None, column_scale: Tensor | None) -> Scaled:
    """The scaled delta. Raises AdapterInvalid (`adapter_shape_mismatch`) if a scale does not fit the backbone."""
    if row_scale is not None:
        expect_shape(target, "row_scale", row_scale, (target.out_features,))
    if column_scale is not None:
        expect_shape(target, "column_scale", column_scale, (target.shape[_input_dimension(target)],))
    return Scaled(target, inner, row_scale, column_scale)


def by_output(target: Target, scale: Tensor) -> Tensor:
    """One number per output, [out], in a shape that can be broadcast over the target's weight."""
    ones = [1] * (len(target.shape) - 2)
    if target.layer is not Layer.CONV_TRANSPOSED:
        return scale.view(-1, 1, *ones)
    inputs, outputs = target.shape[0] // target.groups, target.shape[1]  # of one group; the weight is [in, out/g, *k]
    return scale.view(target.groups, 1, outputs).expand(-1, inputs, -1).reshape(-1, outputs, *ones)


def by_input(target: Target, scale: Tensor) -> Tensor:
    """One number per input, [in/groups], in a shape that can be broadcast over the target's weight."""
    shape = [1] * len(target.shape)
    shape[_input_dimension(target)] = -1
    return scale.view(shape)


def _input_dimension(target: Target) -> int:
    return 0 if target.layer is Layer.CONV_TRANSPOSED else 1
