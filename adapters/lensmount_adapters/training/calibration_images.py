"""Which images measure what an adapter promises: a part of their own, or the training images, each scored apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from lensmount_adapters.data.dataset import ImageFolder
from lensmount_adapters.data.split import Split, with_calibration
from lensmount_adapters.errors import DatasetError, TrainingError
from lensmount_adapters.training.config import TrainingConfig

Source = Literal["part", "cross-fitted"]

SHARE = 0.15  # of the training images, for a part of their own
ENOUGH_FOR_A_PART = 99  # calibration images of each class: what a promise of 99 % needs
ENOUGH_TO_CROSS = 19  # training images of each class: what a promise of 95 % needs
GROUPS_TO_CROSS = 4  # of each class: one for each fold


@dataclass(frozen=True, slots=True)
class CalibrationPlan:
    """Where the promises come from. `why_not` says it in words if `source` is None."""

    split: Split
    source: Source | None
    why_not: str = ""


def plan_calibration(config: TrainingConfig, folder: ImageFolder, split: Split) -> CalibrationPlan:
    """Plan as the option `calibration` says; "auto" does nothing where there are too few images.

    Validation and test are never touched. Raises TrainingError if what is asked for is impossible.
    """
    asked = config.calibration
    if config.positive is not None and config.positive not in folder.classes:
        raise TrainingError(
            f"found positive {config.positive[:80]!r}, expected one of {', '.join(folder.classes[:20])}. "
            f"Fix: --positive {folder.classes[-1]}"
        )
    if asked == "off":
        return CalibrationPlan(split, None, "calibration is off")
    apart = None if asked == "cross" else _apart(config, folder, split)
    if asked == "part" and isinstance(apart, DatasetError):
        raise TrainingError(
            f"calibration part: {str(apart).partition(' Fix: ')[0]} Fix: add images of each class, or choose "
            "--calibration cross or off"
        ) from apart
    if isinstance(apart, Split) and (asked == "part" or _fewest(folder, apart.calibration) >= ENOUGH_FOR_A_PART):
        return CalibrationPlan(apart, "part")
    missing = _too_few_to_cross(folder, split, 1 if asked == "cross" else ENOUGH_TO_CROSS)
    if not missing:
        return CalibrationPlan(split, "cross-fitted")
    if asked == "cross":
        raise TrainingError(f"calibration cross: {missing}. Fix: add images, or choose --calibration off")
    return CalibrationPlan(split, None, f"too few images: {missing}")


def _apart(config: TrainingConfig, folder: ImageFolder, split: Split) -> Split | DatasetError:
    """The split with a calibration part, or why there is none."""
    samples = folder.samples
    try:
        return with_calibration(split, [s.label for s in samples], [s.group for s in samples], config.seed, SHARE)
    except DatasetError as error:
        return error


def _fewest(folder: ImageFolder, indices: tuple[int, ...]) -> int:
    """The images of the smallest class."""
    counts = Counter(folder.samples[index].label for index in indices)
    return min(counts[label] for label in range(len(folder.classes)))


def _too_few_to_cross(folder: ImageFolder, split: Split, least: int) -> str:
    """What is missing to train without each fourth of the training images in turn; "" if nothing is."""
    train = [folder.samples[index] for index in split.train]
    images = Counter(sample.label for sample in train)
    groups = Counter(label for label, _ in {(sample.label, sample.group) for sample in train})
    for label, name in enumerate(folder.classes):
        if images[label] < least or groups[label] < GROUPS_TO_CROSS:
            return (
                f"found {images[label]} training images of {name[:80]} in {groups[label]} groups, expected at least "
                f"{max(least, GROUPS_TO_CROSS)} in {GROUPS_TO_CROSS} groups"
            )
    return ""
