"""The change of each weight between a backbone and another network, and the tensors of an adapter file that hold it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from lensmount_adapters.adapter.manifest import Factors
from lensmount_adapters.adapter.schema import MAX_RANK_OF_VERSION_1
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.changes.budget import Ranks
from lensmount_adapters.changes.spectrum import Spectrum


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One changed tensor. `change` is |D| / |W|; `error` is |D - stored| / |D| of what the file holds."""

    name: str
    shape: tuple[int, ...]
    rank: int | None  # None: the whole change is stored; 0: none of it
    change: float | None  # None: W is 0
    error: float


@dataclass(frozen=True, eq=False)
class Changes:
    """`changed`: `D = new - base` in float64 by the names of the backbone's targets; `sizes`: the norms of the base."""

    targets: Mapping[str, Target]
    sizes: Mapping[str, float]
    changed: Mapping[str, Tensor]

    @classmethod
    def of(cls, backbone: Backbone, changed: Mapping[str, Tensor]) -> Changes:
        sizes = {name: float(own.detach().double().norm()) for name, own in backbone.base(changed).items()}
        return cls(backbone.targets, sizes, changed)

    @cached_property
    def spectra(self) -> dict[str, Spectrum]:
        """Of the changes that factors can hold. The others, such as biases and tokens, are always stored whole."""
        return {
            name: Spectrum.of(D.flatten(1)) for name, D in self.changed.items() if takes_factors(self.targets[name])
        }

    def stored(self, ranks: Ranks) -> tuple[dict[str, Tensor], dict[str, Factors]]:
        """The tensors of the adapter file, and the manifest's `modules`. A rank of 0 leaves the weight as it is."""
        tensors: dict[str, Tensor] = {}
        modules: dict[str, Factors] = {}
        for name, D in self.changed.items():
            rank = ranks.get(name)
            if rank is None or _is_larger(rank, D.flatten(1)):
                tensors[f"{name}.delta"] = D
            elif rank > 0:
                B, A = self.spectra[name].factors(D.flatten(1), rank)
                path = self.targets[name].path
                tensors[f"{path}.lora_A.weight"] = A.reshape(rank, *D.shape[1:])
                tensors[f"{path}.lora_B.weight"] = B.reshape(len(D), rank, *[1] * (D.ndim - 2))
                modules[path] = Factors(rank=rank, alpha=rank)
        return tensors, modules

    def layers(self, stored: Mapping[str, Tensor]) -> tuple[LayerReport, ...]:
        """What each changed tensor loses in the stored tensors, which have an alpha equal to the rank."""
        return tuple(self._layer(name, stored) for name in self.changed)

    def error(self, layers: tuple[LayerReport, ...]) -> float:
        """`|D - stored| / |D|` over all matrices and kernels together.

        Everything else is stored whole, up to the rounding of the file's number format. Statistics of BatchNorm can
        change by more than all weights, so they would hide what the weights lose.
        """
        errors = {layer.name: layer.error for layer in layers if takes_factors(self.targets[layer.name])}
        squares = {name: float(self.changed[name].square().sum()) for name in errors}
        lost = sum(squares[name] * error**2 for name, error in errors.items())
        return math.sqrt(lost / sum(squares.values())) if errors else 0.0

    def layer(self, name: str, kept: Tensor | None, rank: int | None = None) -> LayerReport:
        """The report on one tensor, of whose change `kept` is stored."""
        D, size = self.changed[name], self.sizes[name]
        error = 1.0 if kept is None else float((D - kept.double()).norm() / D.norm())
        return LayerReport(name, tuple(D.shape), rank, float(D.norm()) / size if size else None, error)

    def _layer(self, name: str, stored: Mapping[str, Tensor]) -> LayerReport:
        whole, path = stored.get(f"{name}.delta"), self.targets[name].path
        B, A = stored.get(f"{path}.lora_B.weight"), stored.get(f"{path}.lora_A.weight")
        if whole is not None:
            return self.layer(name, whole)
        if B is None or A is None:
            return self.layer(name, None, 0)
        product = B.double().flatten(1) @ A.double().flatten(1)
        return self.layer(name, product.view(self.changed[name].shape), B.shape[1])


def takes_factors(target: Target) -> bool:
    """Return True for the weight of a linear layer or convolution and for a matrix that no layer owns."""
    if target.layer is Layer.PARAMETER:
        return len(target.shape) == 2
    return target.layer in (Layer.LINEAR, Layer.CONV) and target.name.endswith(".weight")


def _is_larger(rank: int, D: Tensor) -> bool:
    """Return True if factors are too many for mixed batches, and larger than their product."""
    return rank > MAX_RANK_OF_VERSION_1 and rank * sum(D.shape) >= D.numel()
