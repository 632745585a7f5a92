"""What an int8 trunk costs an adapter, as its file records it, and whether it may be used for the adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.trunks.int8 import Int8Trunks
from lensmount_adapters.trunks.ranges import Ranges, ranges_of

RECORD = "precisions"  # of the training record
FLOAT32, INT8 = "float32", "int8"  # of the trunk, in front of a float branch
INT8_BRANCH = "int8_branch"  # of trunk and branch
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
    """Which adapters have an int8 trunk: all if somebody `asked` for it, otherwise those that it costs nothing.

    With `branches`, programs of a single adapter have the branch in int8 as well, if its record says the same of that.
    """

    trunks: Int8Trunks
    asked: bool
    branches: bool = False

    def allows(self, manifest: Manifest, recipe: str) -> bool:
        return self.asked or costs_nothing(manifest, recipe)

    def branch_ranges(self, manifest: Manifest, recipe: str) -> Ranges:
        """The ranges of the layers of the branch that are computed in int8; none if it stays in float."""
        wanted = self.branches and costs_nothing(manifest, recipe, INT8_BRANCH)
        return ranges_of(manifest, recipe) if wanted else {}


def recorded(figures: Mapping[str, Figures]) -> dict[str, Any]:
    """The entry of a training record: the figures by precision."""
    return {RECORD: {precision: each.to_json() for precision, each in figures.items()}}


def costs_nothing(manifest: Manifest, recipe: str, precision: str = INT8) -> bool:
    """Whether the record says that the int8 trunk with this recipe costs at most 0.3 points and no calibration.

    `precision`: with the branch in float, or INT8_BRANCH.

    A record of another trunk, on other images than the float figures, or of another form says nothing.
    """
    record = manifest.training.get(RECORD)
    if not isinstance(record, dict):
        return False
    try:
        floating, int8 = (Figures(**record[each]) for each in (FLOAT32, precision))
        same = (floating.part, floating.images) == (int8.part, int8.images) and int8.images > 0
        lost = floating.balanced_accuracy - int8.balanced_accuracy
        grown = int8.calibration_error - floating.calibration_error
        return same and int8.trunk == recipe and bool(lost <= MOST_POINTS) and bool(grown <= MOST_ECE)
    except (KeyError, TypeError):
        return False
