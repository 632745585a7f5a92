"""Which backbone tensors an adapter trains: a preset per family of backbones, or a regular expression."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.patterns import compile_pattern

METHODS = ("lora", "lora-tucker", "dora", "bias", "norm", "head")
WITH_FACTORS = frozenset({"lora", "lora-tucker", "dora"})  # a method has at most one of them
LOW_RANK = frozenset({Layer.LINEAR, Layer.CONV, Layer.CONV_TRANSPOSED})
NORMS = frozenset({Layer.NORM, Layer.BATCH_NORM})


@dataclass(frozen=True, slots=True)
class Preset:
    """Which layers train by default on one family of backbones, and why.

    `modules` is searched in the paths of dense layers, which lora trains; `stages` in the paths of the biases and norms
    that train together with lora.
    """

    backbones: str
    modules: str
    stages: str
    reason: str


PRESETS = (
    Preset(
        r"efficientnet|mobilenet",
        r"^blocks\.[4-9]\.|^conv_head$",
        r"^blocks\.[4-9]\.|^bn2$",
        "pointwise convolutions of the last stages; the frozen trunk below is shared by all adapters",
    ),
    Preset(r"resnet|resnext", r"^layer[34]\..*conv[12]$", r"^layer[34]\.", "the seed 'smoking': layer3 and layer4"),
    Preset(r"^vgg16(-3d\d*)?$", r"^features\.(24|26|28)$", r"^features\.(24|26|28)$", "the seed 'malaria': block 5"),
    Preset(r"^monai_", r"", r"", "every convolution, transposed ones too: the seed 'LoRA notes'"),
    Preset(r"vit|deit|beit|eva", r"^blocks\.\d+\.attn\.(qkv|q_proj|k_proj|v_proj)$", r"^blocks\.", "LoRA's own choice"),
    Preset(r"^clip", r"\.self_attn\.[qkv]_proj$", r"\.encoder\.layers\.", "the seed 'histology': q, k and v"),
)


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen targets, by the kind of their delta: low-rank (lora, lora-tucker, dora) or full (bias, norm)."""

    low_rank: tuple[Target, ...] = ()
    additive: tuple[Target, ...] = ()
    tucker: bool = False
    dora: bool = False


def parse_method(method: str) -> tuple[str, ...]:
    """Split "lora+norm" into ("lora", "norm"). Raises TrainingError for an unknown or contradictory method."""
    parts = tuple(part.strip() for part in method.split("+"))
    if unknown := [part for part in parts if part not in METHODS]:
        raise TrainingError(
            f"found method {unknown[0]!r}, expected {', '.join(METHODS)}, or several joined by '+' like lora+norm"
        )
    if len(set(parts)) != len(parts) or len(WITH_FACTORS & set(parts)) > 1:
        raise TrainingError(f"found method {method!r}, expected each part once and one of lora, lora-tucker and dora")
    if "head" in parts and len(parts) > 1:
        raise TrainingError(f"found method {method!r}: the head trains with every method. Fix: leave 'head' out")
    return parts


def select_targets(
    backbone: str, targets: Mapping[str, Target], method: str, expression: str | None = None
) -> Selection:
    """The tensors that `method` trains on the backbone of that name.

    `expression` is searched in module paths ("layer4.0.conv1") and replaces the preset for every part of the method.
    Without an expression, lora trains the preset's dense layers. Bias and norm train the whole backbone by themselves;
    together with lora they train the preset's stages only, so that the trunk below stays frozen. Raises TrainingError
    if nothing matches.
    """
    parts = parse_method(method)
    pattern = compile_pattern(expression, TrainingError, "--targets")
    with_lora = bool(WITH_FACTORS & set(parts))
    dense = _low_rank(backbone, targets, pattern) if with_lora else ()
    additive = _additive(backbone, targets, parts, pattern, with_lora)
    if not dense and not additive and parts != ("head",):
        layers = sorted({t.module for t in targets.values()})
        raise TrainingError(
            f"--targets {expression!r} with method {method} matches nothing in {backbone}, expected module paths such "
            f"as {', '.join(layers[:: max(1, len(layers) // 5)][:6])}. Fix: widen the expression"
        )
    return Selection(dense, additive, tucker="lora-tucker" in parts, dora="dora" in parts)


def _low_rank(backbone: str, targets: Mapping[str, Target], pattern: re.Pattern[str] | None) -> tuple[Target, ...]:
    layers = [t for t in targets.values() if t.layer in LOW_RANK and t.name.endswith(".weight")]
    if pattern is not None:
        return tuple(t for t in layers if pattern.search(t.module))
    dense = [t for t in layers if t.groups == 1 or _spans_several_slices(t)]
    preset = _preset(backbone)
    chosen = [t for t in dense if preset is not None and re.search(preset.modules, t.module)]
    return tuple(chosen or dense[-max(1, len(dense) // 3) :])  # an unknown family trains the last third


def _spans_several_slices(target: Target) -> bool:
    """Return True for a 3-D kernel of several slices. Only such kernels let an adapter see the order of slices."""
    return len(target.shape) == 5 and target.shape[2] > 1


def _additive(
    backbone: str,
    targets: Mapping[str, Target],
    parts: tuple[str, ...],
    pattern: re.Pattern[str] | None,
    with_lora: bool,
) -> tuple[Target, ...]:
    biases = [t for t in targets.values() if "bias" in parts and t.name.endswith(".bias")]
    norms = [
        t
        for t in targets.values()
        if "norm" in parts and t.layer in NORMS and t.name.rpartition(".")[2] in ("weight", "bias")
    ]
    chosen = {t.name: t for t in (*biases, *norms)}
    if pattern is None and with_lora and (preset := _preset(backbone)) is not None:
        pattern = re.compile(preset.stages)
    return tuple(t for t in chosen.values() if pattern is None or pattern.search(t.module))


def _preset(backbone: str) -> Preset | None:
    return next((preset for preset in PRESETS if re.search(preset.backbones, backbone)), None)
