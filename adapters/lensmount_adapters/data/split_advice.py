"""Say before a training run whether its split is possible, what is missing, and which fractions would work."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lensmount_adapters.data.dataset import ImageFolder, Sample, join_duplicates
from lensmount_adapters.data.source import FolderSource
from lensmount_adapters.data.split import Split, check_classes, few_shot, split_folder, split_samples
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.groups.group_search import search_groups

SEED, VALIDATION, TEST = 0, 0.15, 0.15  # of a job that states nothing else
MAX_SPLIT_IMAGES = 20_000  # of a dataset that is split only to say whether it can be: some seconds
_SHARES = ((0.15, 0.15), (0.2, 0.2), (0.25, 0.25), (0.34, 0.33), (0.0, 0.34), (0.0, 0.5), (0.0, 0.0))
_MANY = 64  # images of each class that are tried at most, to say how many would be enough


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """The options of a run that its split depends on. `group_regex` is not among them."""

    seed: int = SEED
    validation_fraction: float = VALIDATION
    test_fraction: float = TEST
    shots: int | None = None


@dataclass(frozen=True, slots=True)
class StatedImage:
    """One image as a dataset's manifest states it. `digest` identifies its bytes."""

    path: str
    label: str
    group: str | None
    split: str | None
    digest: str


def stated_images(manifest: bytes) -> list[StatedImage]:
    """Read the rows of the manifest of a canonical archive."""
    rows = map(json.loads, manifest.decode().splitlines())
    return [StatedImage(row["path"], row["label"], row["group"], row["split"], row["sha256"]) for row in rows]


def folder_of(images: Sequence[StatedImage]) -> ImageFolder:
    """Build the dataset that training would see, with copies in one group. It has no files, only their names."""
    classes = tuple(sorted({image.label for image in images}))
    index = {label: number for number, label in enumerate(classes)}
    samples = [
        Sample(image.path, index[image.label], image.group or image.path, image.digest, image.split)
        for image in sorted(images, key=lambda image: (index[image.label], tuple(image.path.split("/"))))
    ]
    return ImageFolder(Path(), classes, join_duplicates(samples, classes)[0], FolderSource(Path()))


def why_no_split(folder: ImageFolder, options: SplitOptions | None = None) -> str | None:
    """Return why a run with these options cannot split the dataset and what to do instead, or None if it can."""
    try:
        advised_split(folder, options or SplitOptions())
    except DatasetError as error:
        return str(error)
    return None


def advised_split(folder: ImageFolder, options: SplitOptions) -> Split:
    """Split as `split_with` does. The DatasetError says which numbers or fractions would work.

    A class of one image is refused in the words of a push: with any fractions nothing could measure it.
    """
    check_classes(folder.counts())
    try:
        return split_with(folder, options)
    except DatasetError as error:
        reason = str(error).partition(" Fix: ")[0].rstrip(".")
        if options.shots is not None and why_no_split(folder, replace(options, shots=None)) is None:
            raise too_small(f"{reason}. Fix: choose fewer shots (--shots), or add images") from error
        raise too_small(f"{reason}. {_numbers(folder, options)} Fix: {_cure(folder, options)}") from error


def why_refused(
    images: Sequence[StatedImage], options: SplitOptions, group_regex: str | None, most: int
) -> DatasetError | None:
    """Return the error with which a run would end when it splits these images, or None.

    `group_regex` is searched in a child process with a limit on its time. Only up to `most` images are split.
    """
    if group_regex is not None:
        try:
            found = iter(search_groups(group_regex, [image.path for image in images if image.group is None]))
        except DatasetError as error:
            return error
        images = [image if image.group is not None else replace(image, group=next(found)) for image in images]
    reason = why_no_split(folder_of(images), options) if len(images) <= most else None
    return None if reason is None else too_small(reason)


def too_small(reason: str) -> DatasetError:
    return DatasetError(reason, code="dataset_too_small")


def split_with(folder: ImageFolder, options: SplitOptions) -> Split:
    """Split as a run with these options does. Raises DatasetError if it cannot."""
    split = split_folder(folder, options.seed, options.validation_fraction, options.test_fraction)
    if options.shots is None:
        return split
    return few_shot(split, [sample.label for sample in folder.samples], options.shots, options.seed)


def _numbers(folder: ImageFolder, options: SplitOptions) -> str:
    """The images of the smallest class that are not stated for another part than training, and how many are enough."""
    free = [sample for sample in folder.samples if sample.split in (None, "train")]
    groups = Counter(label for label, _ in {(sample.label, sample.group) for sample in free})
    counts = Counter(sample.label for sample in free)
    fewest = min(range(len(folder.classes)), key=lambda label: (groups[label], label))
    in_groups = "" if groups[fewest] == counts[fewest] else f" in {groups[fewest]} group(s)"
    where = "" if len(free) == len(folder.samples) else " that are not stated for validation or test"
    stated = {sample.split for sample in folder.samples}
    enough = _enough(
        len(folder.classes),
        options.seed,
        0 if "validation" in stated else options.validation_fraction,
        0 if "test" in stated else options.test_fraction,
    )
    each = " of each class, all in different groups" if in_groups else " of each class"
    expected = f", expected at least {enough}{each}" if enough else ""
    return f"Found {counts[fewest]} image(s){in_groups} of {folder.classes[fewest][:80]!r}{where}{expected}."


def _enough(classes: int, seed: int, validation_fraction: float, test_fraction: float) -> int:
    """The number of images of each class from which on classes of equal size can be split; 0 if it is not known."""
    for count in range(1, _MANY):
        labels = [label for label in range(min(classes, 4)) for _ in range(count)]
        try:
            split_samples(labels, range(len(labels)), seed, validation_fraction, test_fraction)
        except DatasetError:
            continue
        return count
    return 0


def fractions_that_work(folder: ImageFolder, options: SplitOptions | None = None) -> tuple[float, float] | None:
    """Return the first validation and test fractions of a few that split the dataset, or None."""
    options = options or SplitOptions()
    for validation, test in _SHARES:
        try:
            split_with(folder, SplitOptions(options.seed, validation, test))
        except DatasetError:
            continue
        return validation, test
    return None


def as_options(validation: float, test: float) -> str:
    """Return the fractions as fields of a job and as options of the command line."""
    return (
        f"validation_fraction {validation:g} and test_fraction {test:g} "
        f"(--val-fraction {validation:g} --test-fraction {test:g})"
    )


def _cure(folder: ImageFolder, options: SplitOptions) -> str:
    fractions = fractions_that_work(folder, options)
    if fractions is None and any(sample.split in ("validation", "test") for sample in folder.samples):
        return "state train for images of each class, or add images of each class for training"
    if fractions is None:
        return "add images (or groups) of each class, or state another split"
    return f"add images, or train with {'no shots and ' if options.shots else ''}{as_options(*fractions)}"
