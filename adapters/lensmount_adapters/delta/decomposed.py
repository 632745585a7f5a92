"""DoRA in training: a weight as magnitudes and directions, `live = m * V / |V|` with `V = W + s B A`.

`|V|` is the length of the weights of one output, and `m` is one trained number per output. The gradient does not flow
through `|V|`, as in section 4.3 of DoRA (arXiv 2402.09353). The trained weight is stored as a row scale `m / |V|`
(delta/scaled.py), which needs neither `m` nor the division when it is served.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.kinds import Delta
from lensmount_adapters.delta.scaled import Scaled, by_output


@dataclass(frozen=True, slots=True, eq=False)
class Decomposed:
    """`decomposed(low_rank, base)`: the same live weight, with a magnitude [out] that can be trained."""

    target: Target
    inner: Delta
    magnitude: Tensor

    @property
    def rank(self) -> int | None:
        return self.inner.rank

    def tensors(self) -> dict[str, Tensor]:
        return self.inner.tensors() | {magnitude_name(self.target): self.magnitude}

    def merged(self, base: Tensor) -> Tensor:
        V = self.inner.merged(base)
        return by_output(self.target, self._row_scale(V)) * V

    def write(self, base: Tensor, live: Tensor) -> None:
        live.copy_(self.merged(base))

    def stored(self, base: Tensor) -> Scaled:
        """The same live weight as the file stores it."""
        return Scaled(self.target, self.inner, row_scale=self._row_scale(self.inner.merged(base)).detach())

    def _row_scale(self, V: Tensor) -> Tensor:
        lengths = lengths_of_outputs(self.target, V).detach()
        return self.magnitude / lengths.clamp_min(torch.finfo(torch.float32).tiny)  # a row of zeros stays one


def decomposed(delta: Delta, base: Tensor) -> Decomposed:
    """The delta with the magnitudes that it gives the weight now."""
    return Decomposed(delta.target, delta, lengths_of_outputs(delta.target, delta.merged(base)).detach())


def magnitude_name(target: Target) -> str:
    """The name of the magnitude among the tensors in training."""
    return f"{target.name}.magnitude"


def lengths_of_outputs(target: Target, weight: Tensor) -> Tensor:
    """The Euclidean length of the weights of each output, [out]."""
    if target.layer is not Layer.CONV_TRANSPOSED:
        lengths: Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
        return lengths
    blocks = weight.reshape(target.groups, -1, target.shape[1], weight[0, 0].numel())  # [g, in/g, out/g, k]
    by_group: Tensor = torch.linalg.vector_norm(blocks, dim=(1, 3))
    return by_group.flatten()
