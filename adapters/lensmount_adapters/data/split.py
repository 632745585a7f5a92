"""Split a dataset into training, validation and test by group and class. A seed gives the same split everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lensmount_adapters.data.labels import PARTS
from lensmount_adapters.errors import DatasetError

if TYPE_CHECKING:
    from lensmount_adapters.data.dataset import ImageFolder


MIN_CLASS_IMAGES = 2  # one to train on and one to measure with; the same for a push, a job and a training run


@dataclass(frozen=True, slots=True)
class Split:
    """The sample indices of each part, ascending."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    calibration: tuple[int, ...] = ()

    def parts(self) -> dict[str, tuple[int, ...]]:
        """The indices by part; "calibration" only if there is one."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return parts | ({"calibration": self.calibration} if self.calibration else {})


def check_classes(counts: Mapping[str, int], fewest: int = MIN_CLASS_IMAGES, which: str = "") -> None:
    """Raise a DatasetError (`dataset_too_small`) if a class has fewer images than `fewest`."""
    label = min(counts, key=lambda name: (counts[name], name))
    if counts[label] < fewest:
        raise DatasetError(
            f"found {counts[label]} {which}image(s) of {label[:80]!r}, expected at least {fewest} "
            "of each class. Fix: add images or leave the class out",
            code="dataset_too_small",
        )


def split_samples(
    labels: Sequence[int],
    groups: Sequence[Hashable],
    seed: int,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.15,
) -> Split:
    """Assign whole groups to parts so that every part has about its share of every class.

    This is the rule of scikit-learn's StratifiedGroupKFold for parts of unequal size. Groups come in an order drawn
    from `seed`, those with the most uneven classes first. Each goes to the part that keeps the shares of the classes
    most even. Raises DatasetError if the fractions are out of range or a part would lack a class.
    """
    fractions = _fractions(validation_fraction, test_fraction)
    members = _members(labels, groups, seed)
    classes = sorted(set(labels))
    column = {label: index for index, label in enumerate(classes)}
    totals = np.array([Counter(labels)[label] for label in classes], dtype=float)  # [classes]
    shares = np.array([fraction for fraction in fractions.values() if fraction > 0])  # [parts]
    target = shares[:, None] * totals[None, :]  # [parts, classes]
    filled = np.zeros_like(target)
    chosen: dict[str, list[int]] = {part: [] for part, fraction in fractions.items() if fraction > 0}
    names = list(chosen)
    counted = [(indices, _histogram(indices, labels, column)) for indices in members]
    counted.sort(key=lambda item: -float(np.std(item[1])))  # stable, so equal items keep the drawn order
    for indices, histogram in counted:
        part = _most_even(filled, target, histogram)
        filled[part] += histogram
        chosen[names[part]].extend(indices)
    split = Split(*(tuple(sorted(chosen.get(part, []))) for part in PARTS))
    _check(split, labels, groups, fractions)
    return split


def split_folder(
    folder: ImageFolder, seed: int, validation_fraction: float = 0.15, test_fraction: float = 0.15
) -> Split:
    """Split a dataset: use the parts that its file of labels states, and draw the others with `split_samples`.

    A part without stated images is drawn from the images that are stated as training or have no stated part. All
    images that are not drawn are for training. Raises DatasetError as `split_samples` does, and if training would lack
    a class.
    """
    return split_stated(
        [sample.label for sample in folder.samples],
        [sample.group for sample in folder.samples],
        [sample.split for sample in folder.samples],
        folder.classes,
        seed,
        validation_fraction,
        test_fraction,
    )


def split_stated(
    labels: Sequence[int],
    groups: Sequence[Hashable],
    parts: Sequence[str | None],
    classes: Sequence[str],
    seed: int,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.15,
) -> Split:
    """Split as `split_folder` does, from the label, the group and the stated part of each sample."""
    stated = {part: [index for index, name in enumerate(parts) if name == part] for part in PARTS[1:]}
    if not any(stated.values()):
        return split_samples(labels, groups, seed, validation_fraction, test_fraction)
    _fractions(validation_fraction, test_fraction)
    assigned = {index for indices in stated.values() for index in indices}
    rest = [index for index in range(len(labels)) if index not in assigned]
    drawn = split_samples(
        [labels[index] for index in rest],
        [groups[index] for index in rest],
        seed,
        0 if stated["validation"] else validation_fraction,
        0 if stated["test"] else test_fraction,
    ).parts()
    chosen = {part: tuple(rest[index] for index in indices) for part, indices in drawn.items()}
    split = Split(**(chosen | {part: tuple(indices) for part, indices in stated.items() if indices}))
    if missing := set(labels) - {labels[index] for index in split.train}:
        raise DatasetError(
            f"the stated split leaves no training image of {len(missing)} of {len(set(labels))} classes, such as "
            f"{classes[min(missing)]}. Fix: state train for some of its images"
        )
    return split


def few_shot(split: Split, labels: Sequence[int], shots: int, seed: int) -> Split:
    """Return the split with `shots` training images of each class, drawn from `seed`. The other parts stay the same."""
    if shots < 1:
        raise DatasetError(f"found --shots {shots}, expected at least 1. Fix: state a positive number")
    order = np.random.default_rng(seed).permutation(np.array(split.train))
    kept: list[int] = []
    for label in sorted(set(labels)):
        candidates = [int(index) for index in order if labels[int(index)] == label]
        if len(candidates) < shots:
            raise DatasetError(
                f"found {len(candidates)} training images of class {label}, expected {shots} for --shots. "
                f"Fix: state --shots {len(candidates)}, or add images of this class"
            )
        kept.extend(candidates[:shots])
    return Split(tuple(sorted(kept)), split.validation, split.test)


def with_calibration(split: Split, labels: Sequence[int], groups: Sequence[Hashable], seed: int, share: float) -> Split:
    """Return the split with a calibration part: about `share` of its training images, in whole groups.

    Validation and test stay the same. Raises DatasetError if a part would lack a class.
    """
    drawn = split_samples(
        [labels[index] for index in split.train], [groups[index] for index in split.train], seed, share, 0
    )
    return replace(
        split,
        train=tuple(split.train[index] for index in drawn.train),
        calibration=tuple(split.train[index] for index in drawn.validation),
    )


def _fractions(validation: float, test: float) -> dict[str, float]:
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise DatasetError(
            f"found validation and test fractions {validation:g} and {test:g}, expected each from 0 to below 1 and "
            "something left to train on. Fix: choose smaller fractions"
        )
    return {"train": 1 - validation - test, "validation": validation, "test": test}


def _members(labels: Sequence[int], groups: Sequence[Hashable], seed: int) -> list[list[int]]:
    """Return the samples of each group, with the groups in an order drawn from `seed`."""
    if len(labels) != len(groups):
        raise ValueError(f"found {len(labels)} labels and {len(groups)} groups")
    by_group: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        by_group.setdefault(group, []).append(index)
    members = list(by_group.values())
    return [members[int(index)] for index in np.random.default_rng(seed).permutation(len(members))]


def _histogram(indices: Sequence[int], labels: Sequence[int], column: dict[int, int]) -> np.ndarray:
    counts = np.zeros(len(column))
    for index in indices:
        counts[column[labels[index]]] += 1
    return counts


def _most_even(filled: np.ndarray, target: np.ndarray, histogram: np.ndarray) -> int:
    """Return the part that keeps the filled shares most even if it takes this group. The emptiest part wins a tie."""
    shares = filled / target  # [parts, classes]
    spread = [
        float(np.std(_with(shares, part, histogram / target[part]), axis=0).mean()) for part in range(len(filled))
    ]
    best = min(spread)
    tied = [part for part, value in enumerate(spread) if value <= best + 1e-12]
    return min(tied, key=lambda part: float(shares[part].mean()))


def _with(shares: np.ndarray, part: int, added: np.ndarray) -> np.ndarray:
    after = shares.copy()
    after[part] += added
    return after


def _check(split: Split, labels: Sequence[int], groups: Sequence[Hashable], fractions: dict[str, float]) -> None:
    """Check that no group is in two parts, no sample is lost, and every requested part has every class."""
    seen: dict[Hashable, str] = {}
    for part, indices in split.parts().items():
        for index in indices:
            if seen.setdefault(groups[index], part) != part:
                raise AssertionError(f"group {groups[index]!r} is in {seen[groups[index]]} and {part}")
        if fractions[part] > 0 and (missing := set(labels) - {labels[index] for index in indices}):
            raise DatasetError(
                f"the {part} part ({fractions[part]:.0%}) would have no image of {len(missing)} of "
                f"{len(set(labels))} classes. Fix: add images (or groups) of each class, or choose larger fractions "
                "or 0 for the part"
            )
    if sum(map(len, split.parts().values())) != len(labels):
        raise AssertionError("a sample was lost in the split")
