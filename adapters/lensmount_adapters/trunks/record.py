"""What an int8 trunk costs an adapter, as its file records it, and whether it may be used for the adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.trunks.int8 import Int8Trunks

RECORD = "precisions"  # of the training record
FLOAT32, INT8 = "float32", "int8"
MOST_POINTS = 0.003  # of balanced accuracy that int8 may cost
MOST_ECE = 0.01  # by which the expected calibration error may grow


@dataclass(frozen=True, slots=True)
class Figures:
    """An adapter on the `images` of one part of its data, with the trunk in one precision.

    `trunk` is the recipe of the int8 trunk, empty for a float one.
    """

    part: str
    images: int
    balanced_accuracy: float
    calibration_error: float
    trunk: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Int8Use:
    """Which adapters have an int8 trunk: all if somebody `asked` for it, otherwise those that it costs nothing."""

    trunks: Int8Trunks
    asked: bool

    def allows(self, manifest: Manifest, recipe: str) -> bool:
        return self.asked or costs_nothing(manifest, recipe)


def recorded(figures: Mapping[str, Figures]) -> dict[str, Any]:
    """The entry of a training record: the figures by precision."""
    return {RECORD: {precision: each.to_json() for precision, each in figures.items()}}


def costs_nothing(manifest: Manifest, recipe: str) -> bool:
    """Whether the record says that the int8 trunk with this recipe costs at most 0.3 points and no calibration.

    A record of another trunk, on other images than the float figures, or of another form says nothing.
    """
    record = manifest.training.get(RECORD)
    if not isinstance(record, dict):
        return False
    try:
        floating, int8 = (Figures(**record[precision]) for precision in (FLOAT32, INT8))
        same = (floating.part, floating.images) == (int8.part, int8.images) and int8.images > 0
        lost = floating.balanced_accuracy - int8.balanced_accuracy
        grown = int8.calibration_error - floating.calibration_error
        return same and int8.trunk == recipe and bool(lost <= MOST_POINTS) and bool(grown <= MOST_ECE)
    except (KeyError, TypeError):
        return False
