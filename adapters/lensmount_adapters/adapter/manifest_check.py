"""Check a manifest's numbers as they are used, in float32, and its texts as people read them.

The manifest's own types check one number in float64 (`adapter/manifest.py`). A temperature of 1e-300 passes there, and
divides every logit to infinity here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from lensmount_adapters.adapter.manifest import LeakyReluLayer, Manifest, MlpHead
from lensmount_adapters.characters import refused_character
from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.inputs.rules import IntensityRange, VolumePreprocessing

SMALLEST_DIVISOR = 1e-6  # of a temperature and a std: what is divided grows by at most 1e6
LARGEST = 1e6  # of a mean and a std
_NORMAL, _MAX = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
SIZES_OF_FLOAT32 = f"a size between {_NORMAL:.3g} and {_MAX:.3g}, as float32 has it"
_IN_LINES = ("description", "license", "training")  # texts that may have several lines


def check_numbers(manifest: Manifest) -> None:
    """Raise AdapterInvalid (`manifest_invalid`) for the first number that float32 cannot hold or that divides to more.

    A number must be 0 or between 1.2e-38 and 3.4e38, the normal numbers of float32; below, processors lose digits or
    make it 0. So must each scale, `alpha / rank`.
    """
    for where, value in _numbers(manifest):
        if not is_of_float32(value):
            raise _refused(where, value, f"0 or {SIZES_OF_FLOAT32}")
    rule = manifest.preprocessing
    divisors = [("head.temperature", manifest.head.temperature)]
    divisors += [(f"preprocessing.std.{index}", std) for index, std in enumerate(rule.std)]
    for where, value in divisors:
        if value < SMALLEST_DIVISOR:
            raise _refused(where, value, f"at least {SMALLEST_DIVISOR:g}, because it divides")
    for name in ("mean", "std"):
        for index, value in enumerate(getattr(rule, name)):
            if abs(value) > LARGEST:
                raise _refused(f"preprocessing.{name}.{index}", value, f"at most {LARGEST:g}: pixels are 0 to 1")


def _numbers(manifest: Manifest) -> Iterator[tuple[str, float]]:
    """Every number that enters the computation of an answer, with its place in the manifest."""
    yield "head.temperature", manifest.head.temperature
    if isinstance(manifest.head, MlpHead):
        for index, layer in enumerate(manifest.head.layers):
            if isinstance(layer, LeakyReluLayer):
                yield f"head.layers.{index}.negative_slope", layer.negative_slope
    for module, factors in manifest.modules.items():
        yield f"modules.{module[:120]}.alpha", factors.alpha
        yield f"modules.{module[:120]}, alpha / rank", factors.scale
    rule = manifest.preprocessing
    for name in ("mean", "std"):
        yield from ((f"preprocessing.{name}.{index}", value) for index, value in enumerate(getattr(rule, name)))
    if isinstance(rule, VolumePreprocessing) and isinstance(rule.window, IntensityRange):
        yield "preprocessing.window.lower", rule.window.lower
        yield "preprocessing.window.upper", rule.window.upper
        width = width_in_float32(rule.window.lower, rule.window.upper)
        yield "preprocessing.window, upper - lower in float32", width or math.inf
    if manifest.trust is not None and manifest.trust.familiarity is not None:
        for index, value in enumerate(manifest.trust.familiarity.quantiles):
            yield f"trust.familiarity.quantiles.{index}", value


def is_of_float32(value: float) -> bool:
    """Return True for 0 and for what float32 has as a normal number, rounded."""
    return value == 0 or _NORMAL <= abs(value) <= _MAX


def width_in_float32(lower: float, upper: float) -> float:
    """Return what is left of `upper - lower` after both are rounded to float32."""
    return float(np.float64(np.float32(_clipped(upper))) - np.float32(_clipped(lower)))


def _clipped(value: float) -> float:
    return min(max(value, -_MAX), _MAX)


def _refused(where: str, value: float, expected: str) -> AdapterInvalid:
    return AdapterInvalid(
        f"manifest, {where}: found {value:g}, expected {expected}. Fix: write the number that the adapter was trained "
        "with",
        code="manifest_invalid",
    )


def check_texts(manifest: Manifest) -> None:
    """Raise AdapterInvalid (`manifest_invalid`) for the first text with a character that `characters.py` refuses."""
    for where, text in _texts("", manifest.model_dump(mode="json")):
        if found := refused_character(text, lines=where.partition(".")[0] in _IN_LINES):
            raise AdapterInvalid(
                f"manifest, {where[:120]}: found {found}, expected plain text. Fix: leave the character out; "
                "docs/security.md has the rule",
                code="manifest_invalid",
            )


def _texts(where: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text in the JSON `value`, keys included, with its place. A place is shown, so it names no refused key."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield f"{where}.(a key)".removeprefix("."), key
            yield from _texts(f"{where}.{key}".removeprefix("."), inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(f"{where}.{index}".removeprefix("."), inner)
