"""One backbone tensor that an adapter may change, and the kind of layer it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Layer(StrEnum):
    """The kind of module that a backbone tensor belongs to."""

    LINEAR = "linear"
    CONV = "conv"
    CONV_TRANSPOSED = "conv_transposed"
    NORM = "norm"
    BATCH_NORM = "batch_norm"
    OTHER = "other"
    PARAMETER = "parameter"  # a position embedding, class token, layer scale, table, or packed attention weight


@dataclass(frozen=True, slots=True)
class Target:
    """One backbone tensor that an adapter may change.

    `name` is the state-dict name ("layer3.0.conv1.weight"); `shape` is the tensor's: [out, in/groups, *k] for a
    convolution, [in, out/groups, *k] for a transposed one, [out, in] for a linear layer.
    """

    name: str
    shape: tuple[int, ...]
    layer: Layer
    groups: int = 1

    @property
    def module(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def path(self) -> str:
        """The name without ".weight": what the factors of a weight are called after in the file, and in `modules`."""
        return self.name.removesuffix(".weight")

    @property
    def out_features(self) -> int:
        if self.layer is Layer.CONV_TRANSPOSED:
            return self.shape[1] * self.groups
        return self.shape[0]
