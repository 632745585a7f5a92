"""Turn the tensors of an adapter file into deltas, checked against the backbone's targets."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.kinds import Delta, additive, low_rank, tucker
from lensmount_adapters.errors import AdapterInvalid


def read_deltas(
    targets: Mapping[str, Target], tensors: Mapping[str, Tensor], scales: Mapping[str, float]
) -> tuple[Delta, ...]:
    """Group the file's tensors, without `head.*`, into deltas in the order of the targets.

    `scales` maps each low-rank module to `alpha / rank`. Raises AdapterInvalid for a tensor that belongs to no target
    (`adapter_unknown_target`), for incomplete factors (`adapter_incomplete`) and for shapes that do not fit.
    """
    modules = {target.module: target for target in targets.values() if target.name.endswith(".weight")}
    deltas: dict[str, Delta] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.endswith(".delta") and name.removesuffix(".delta") in targets:
            target = targets[name.removesuffix(".delta")]
            deltas[target.name] = additive(target, tensor)
            continue
        module, _, part = name.removesuffix(".weight").rpartition(".")
        if not name.endswith(".weight") or part not in FACTORS or module not in modules:
            raise AdapterInvalid(
                f"{name[:120]!r}: found a tensor that belongs to no part of this backbone, expected "
                "<module>.lora_A.weight, .lora_B.weight, .lora_mid.weight, <module>.<param>.delta or head.*. "
                "Fix: check the module's name against the backbone's",
                code="adapter_unknown_target",
            )
        parts.setdefault(module, {})[part] = tensor
    for module, factors in parts.items():
        target = modules[module]
        if target.name in deltas:
            raise AdapterInvalid(
                f"{module}: found both factors and a full delta, expected one kind of delta for one tensor",
                code="adapter_invalid",
            )
        deltas[target.name] = _factored(target, factors, scales)
    return tuple(deltas[name] for name in targets if name in deltas)


FACTORS = ("lora_A", "lora_B", "lora_mid")


def _factored(target: Target, factors: Mapping[str, Tensor], scales: Mapping[str, float]) -> Delta:
    if not {"lora_A", "lora_B"} <= factors.keys():
        raise AdapterInvalid(
            f"{target.module}: found {', '.join(sorted(factors))}, expected lora_A and lora_B together",
            code="adapter_incomplete",
        )
    if target.layer not in (Layer.LINEAR, Layer.CONV, Layer.CONV_TRANSPOSED):
        raise AdapterInvalid(
            f"{target.module}: found low-rank factors for a {target.layer} layer, expected a linear layer or a "
            "convolution. Fix: store it as a full delta",
            code="adapter_unknown_target",
        )
    if target.module not in scales:
        raise AdapterInvalid(
            f"{target.module}: found factors but no entry under `modules` in the manifest, expected its rank and alpha",
            code="adapter_incomplete",
        )
    A, B, scale = factors["lora_A"], factors["lora_B"], scales[target.module]
    if "lora_mid" in factors:
        return tucker(target, A, factors["lora_mid"], B, scale)
    return low_rank(target, A, B, scale)
