"""Turn the tensors of an adapter file into deltas, checked against the backbone's targets."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.kinds import Delta, additive, low_rank, tucker
from lensmount_adapters.delta.scaled import scaled
from lensmount_adapters.errors import AdapterInvalid

FACTORS = ("lora_A", "lora_B", "lora_mid")  # <path>.lora_A.weight, where <path> is the target's name without .weight
WHOLE = ("delta", "row_scale", "column_scale")  # <name>.delta
_WITH_FACTORS = frozenset({Layer.LINEAR, Layer.CONV, Layer.CONV_TRANSPOSED})


def read_deltas(
    targets: Mapping[str, Target], tensors: Mapping[str, Tensor], scales: Mapping[str, float]
) -> tuple[Delta, ...]:
    """Group the file's tensors, without `head.*`, into deltas in the order of the targets.

    `scales` maps each path with factors to `alpha / rank`. Raises AdapterInvalid for a tensor that belongs to no target
    (`adapter_unknown_target`), for incomplete factors (`adapter_incomplete`) and for shapes that do not fit.
    """
    with_factors = {target.path: target for target in targets.values() if _may_have_factors(target)}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        whole, _, part = name.rpartition(".")
        if part in WHOLE and whole in targets:
            parts.setdefault(whole, {})[part] = tensor
            continue
        path, _, part = name.removesuffix(".weight").rpartition(".")
        if not name.endswith(".weight") or part not in FACTORS or path not in with_factors:
            raise AdapterInvalid(
                f"{name[:120]!r}: found a tensor that belongs to no part of this backbone, expected "
                "<module>.lora_A.weight, .lora_B.weight, .lora_mid.weight, <module>.<param>.delta, .row_scale, "
                f".column_scale or head.*. Fix: {_other_name(name, targets, with_factors)}",
                code="adapter_unknown_target",
            )
        parts.setdefault(with_factors[path].name, {})[part] = tensor
    return tuple(_delta(target, parts[name], scales) for name, target in targets.items() if name in parts)


def _other_name(name: str, targets: Mapping[str, Target], with_factors: Mapping[str, Target]) -> str:
    """What to do about an unknown name: leave out what a wrapper put in front of it, or PEFT's name of the adapter."""
    plain = name.replace(".default.weight", ".weight").replace(".base_layer.", ".")
    ends = [plain, *(plain[at + 1 :] for at, letter in enumerate(plain) if letter == ".")]
    for end in ends:
        whole, _, part = end.rpartition(".")
        path, _, factor = end.removesuffix(".weight").rpartition(".")
        if (part in WHOLE and whole in targets) or (factor in FACTORS and path in with_factors):
            return f"rename it to {end[:120]!r}, and the other tensors and the manifest's modules alike"
    return "check the module's name against the backbone's"


def _may_have_factors(target: Target) -> bool:
    """Return True for every weight, so that factors for a norm are refused as such, and for packed matrices."""
    return target.name.endswith(".weight") or (target.layer is Layer.PARAMETER and len(target.shape) == 2)


def _delta(target: Target, parts: Mapping[str, Tensor], scales: Mapping[str, float]) -> Delta:
    factors = {part: tensor for part, tensor in parts.items() if part in FACTORS}
    if factors and "delta" in parts:
        raise AdapterInvalid(
            f"{target.path}: found both factors and a full delta, expected one kind of delta for one tensor. "
            "Fix: add the product of the factors to the full delta, and leave the factors out",
            code="adapter_invalid",
        )
    inner: Delta | None = None
    if factors:
        inner = _factored(target, factors, scales)
    elif "delta" in parts:
        inner = additive(target, parts["delta"])
    row_scale, column_scale = parts.get("row_scale"), parts.get("column_scale")
    if row_scale is None and column_scale is None:
        assert inner is not None  # a target has an entry only if a tensor belongs to it
        return inner
    if not _is_layer_or_matrix(target):
        raise AdapterInvalid(
            f"{target.name}: found a scale for a {target.layer} tensor of shape {list(target.shape)}, expected the "
            "weight of a linear layer or convolution. Fix: store it as a full delta",
            code="adapter_unknown_target",
        )
    return scaled(target, inner, row_scale, column_scale)


def _factored(target: Target, factors: Mapping[str, Tensor], scales: Mapping[str, float]) -> Delta:
    if not {"lora_A", "lora_B"} <= factors.keys():
        raise AdapterInvalid(
            f"{target.path}: found {', '.join(sorted(factors))}, expected lora_A and lora_B together. Fix: store both",
            code="adapter_incomplete",
        )
    if not _is_layer_or_matrix(target):
        raise AdapterInvalid(
            f"{target.path}: found low-rank factors for a {target.layer} layer, expected a linear layer or a "
            "convolution. Fix: store it as a full delta",
            code="adapter_unknown_target",
        )
    if target.path not in scales:
        raise AdapterInvalid(
            f"{target.path}: found factors but no entry under `modules` in the manifest, expected its rank and alpha. "
            f'Fix: add "{target.path}": {{"rank": r, "alpha": r}} for a scale of 1',
            code="adapter_incomplete",
        )
    A, B, scale = factors["lora_A"], factors["lora_B"], scales[target.path]
    if "lora_mid" in factors:
        return tucker(target, A, factors["lora_mid"], B, scale)
    return low_rank(target, A, B, scale)


def _is_layer_or_matrix(target: Target) -> bool:
    """Return True for the weight of a linear layer or convolution, and for a matrix that no layer owns."""
    if target.layer is Layer.PARAMETER:
        return len(target.shape) == 2
    return target.layer in _WITH_FACTORS and target.name.endswith(".weight")
