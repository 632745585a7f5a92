"""The methods of LyCORIS that store whole tensors: full differences, norms and IA3."""

from __future__ import annotations

from torch import Tensor

from lensmount_adapters.errors import AdapterInvalid, AdapterUnsupported
from lensmount_adapters.formulas.module import ForeignModule
from lensmount_adapters.formulas.parts import sizes, take


class Full:
    """The difference of a weight of any shape, and of its bias."""

    name = "full"
    reads = frozenset({"diff", "diff_b"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        deltas = {"weight.delta": take(module, "diff", *module.weight.shape)} if "diff" in module.parts else {}
        return deltas | (_bias(module, "diff_b") if "diff_b" in module.parts else {})


class Norm:
    """The differences of the weight and bias of a LayerNorm or GroupNorm."""

    name = "norm"
    reads = frozenset({"w_norm", "b_norm"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        deltas = {"weight.delta": take(module, "w_norm", *module.weight.shape)}
        return deltas | (_bias(module, "b_norm") if "b_norm" in module.parts else {})


class IA3:
    """`W * (1 + weight)` by output, or by input where `on_input` is 1 (arXiv 2205.05638). The bias stays as it is."""

    name = "IA3"
    reads = frozenset({"weight", "on_input"})

    def read(self, module: ForeignModule) -> dict[str, Tensor]:
        out, inputs, _ = sizes(module)
        on_input = bool(take(module, "on_input", 1))
        if on_input and module.groups > 1:
            raise AdapterUnsupported(
                f"{module.name}: found IA3 on the inputs of a convolution with {module.groups} groups, expected one "
                "without: LyCORIS itself cannot run it. Fix: leave this module out"
            )
        part, count = ("column", inputs) if on_input else ("row", out)
        return {f"weight.{part}_scale": 1 + take(module, "weight", count)}


def _bias(module: ForeignModule, part: str) -> dict[str, Tensor]:
    if module.bias is None:
        raise AdapterInvalid(
            f"{module.name}: found {part}, but the backbone's module has no bias. Fix: import it for the backbone that "
            "it was trained on",
            code="adapter_shape_mismatch",
        )
    return {"bias.delta": take(module, part, *module.bias.shape)}
