"""DoRA as LyCORIS writes it: any other method, and then a new length for each output or each input of the weight.

`live = dora_scale * V / |V|` with `V = W + delta` (arXiv 2402.09353). `|V|` is known at import, so the adapter file
holds the other method's delta and one factor for each row or column.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.formulas.module import ForeignModule, Method
from lensmount_adapters.formulas.parts import merged, sizes, take

EPS = torch.finfo(torch.float32).eps  # LyCORIS adds it to each length


class DoRA:
    """`DoRA(LoKr())` reads a file of LoKr with `dora_scale`.

    `dora_scale` is [out, *1] for the lengths of rows, or [1, in / groups, *1] for those of columns.
    """

    def __init__(self, inner: Method) -> None:
        self.inner = inner
        self.name = f"{inner.name} with DoRA"

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs, _ = sizes(module)
        deltas = self.inner.read(module)
        V = merged(deltas, module.weight)
        shape = tuple(module.parts["dora_scale"].shape)
        if shape[:2] == (out, 1) or shape == (out,):
            lengths = V.flatten(1).norm(dim=1)
            return deltas | {"weight.row_scale": take(module, "dora_scale", out, 1).reshape(-1) / (lengths + EPS)}
        if shape[:2] == (1, inputs):
            lengths = V.transpose(0, 1).flatten(1).norm(dim=1)
            return deltas | {"weight.column_scale": take(module, "dora_scale", 1, inputs).reshape(-1) / (lengths + EPS)}
        raise AdapterInvalid(
            f"{module.name}: found dora_scale of shape {list(shape)}, expected [{out}, 1, ...] or [1, {inputs}, ...]. "
            "Fix: import it for the backbone that it was trained on",
            code="adapter_shape_mismatch",
        )
