"""What a file of another tool holds for one module of the backbone, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class ForeignModule:
    """The tensors that a file holds for the module `name` of the backbone, and the module's own weights.

    `parts` maps the tool's own names without the module's path to tensors, for example "lora_A.weight". `weight` is
    [out, in / groups, *kernel] or [out, in] in float64; `bias` is [out] or None. `config` holds the options of the
    method as they apply to this module. `shared` are the file's tensors that belong to no module (VeRA's projections).
    """

    name: str
    parts: Mapping[str, Tensor]
    weight: Tensor
    bias: Tensor | None = None
    groups: int = 1
    config: Mapping[str, Any] = field(default_factory=dict)
    shared: Mapping[str, Tensor] = field(default_factory=dict)


class Method(Protocol):
    """Reads one method of one tool, for example LoHa as PEFT writes it."""

    name: str

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        """Return the module's deltas in float64, by their names in an adapter file without the module's path.

        These are "lora_A.weight" [r, in / groups, *kernel] and "lora_B.weight" [out, r, *1] with alpha = r, so that
        the scale is part of lora_B; "lora_mid.weight"; "weight.delta"; "weight.row_scale" [out] and
        "weight.column_scale" [in / groups]; "bias.delta". live = row_scale * (W + B A) * column_scale, or W + delta.
        Raises AdapterUnsupported with the reason if what the file holds is no fixed delta of this module.
        """
        ...
