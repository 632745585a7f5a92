"""Read every mask of a dataset once, before a run: all that are wrong in one message, and notes on what looks odd."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.masks.file import Mask
from lensmount_adapters.masks.folder import MaskedImage, MaskFolder
from lensmount_adapters.masks.pairs import LISTED

BORDER_OF_INVERTED = 0.9  # share of the border that is object


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is kept of one mask."""

    file: str
    thresholded: bool
    labels: tuple[bool, ...]  # whether each label has a pixel
    full: bool
    inverted: bool
    ignored: bool


def check_masks(folder: MaskFolder) -> tuple[str, ...]:
    """Decode every mask and return notes on them: blank, full and inverted ones, unused labels, divided greys.

    Raises a DatasetError that lists the files that cannot be used.
    """
    seen: list[_Seen] = []
    broken: dict[str, list[str]] = defaultdict(list)  # what was found, and the masks of which it is true
    for sample in folder.samples:
        try:
            mask = folder.checked_mask(sample, folder.frame(sample))
        except DatasetError as error:
            file, colon, why = str(error).partition(": ")
            broken[why if colon else str(error)].append(file if colon else sample.mask)
            continue
        seen.append(_seen(sample, mask))
    if broken:
        raise _unusable(folder, broken)
    _check_something_to_learn(folder, seen)
    return _notes(folder, seen)


def _check_something_to_learn(folder: MaskFolder, seen: Sequence[_Seen]) -> None:
    if seen and len(folder.labels) == 1 and all(mask.full for mask in seen):
        raise DatasetError(
            f"{folder.root}: found no background in any of {len(seen)} masks: every pixel is an object, expected 0 "
            "for background. Fix: if the values are numbers of labels, state one label for each; if one of them is the "
            "background, replace it by 0"
        )
    if seen and not any(any(mask.labels) for mask in seen):
        raise DatasetError(
            f"{folder.root}: found no object in any of {len(seen)} masks: every pixel is background, expected objects. "
            "Fix: export the masks again as PNG, with the object as 255; a JPEG of 0 and 1 is all black"
        )


def _unusable(folder: MaskFolder, broken: Mapping[str, Sequence[str]]) -> DatasetError:
    lines = [f"{_listed(files)}: {why}" for why, files in broken.items()]
    if len(lines) == 1 and sum(map(len, broken.values())) == 1:
        return DatasetError(lines[0])
    return DatasetError(
        f"{folder.root}: {sum(map(len, broken.values()))} of {len(folder)} masks cannot be used:\n  "
        + "\n  ".join(lines[:LISTED])
        + ("\n  ..." if len(lines) > LISTED else "")
    )


def _listed(files: Sequence[str]) -> str:
    return ", ".join(files[:LISTED]) + (f" and {len(files) - LISTED} more" if len(files) > LISTED else "")


def _seen(sample: MaskedImage, mask: Mask) -> _Seen:
    objects: np.ndarray = np.logical_or.reduce(mask.labels)  # [height, width]
    border = np.concatenate([objects[0], objects[-1], objects[:, 0], objects[:, -1]])
    full = bool((objects if mask.ignored is None else objects | mask.ignored).all())
    inverted = not full and bool(border.mean() >= BORDER_OF_INVERTED) and bool(objects.mean() > 0.5)
    used = tuple(bool(label.any()) for label in mask.labels)
    return _Seen(sample.mask, mask.thresholded, used, full, inverted, mask.ignored is not None)


def _notes(folder: MaskFolder, seen: Sequence[_Seen]) -> tuple[str, ...]:
    notes: list[str] = []
    rules: tuple[tuple[Callable[[_Seen], bool], str], ...] = (
        (lambda mask: not any(mask.labels), "mask(s) are blank: no pixel is an object"),
        (
            lambda mask: mask.ignored,
            "mask(s) have pixels that count as nothing: 255 next to labels, or colours called void",
        ),
        (lambda mask: mask.full, "mask(s) have no background: every pixel is an object"),
        (
            lambda mask: mask.inverted,
            "mask(s) look inverted: the border is object and the middle is background. Fix: if the objects are the 0 "
            "values, save 255 minus each value",
        ),
        (
            lambda mask: mask.thresholded,
            "mask(s) have values between black and white, as JPEG or resizing leave them; those of at least half are "
            "object",
        ),
    )
    for rule, sentence in rules:
        if files := [mask.file for mask in seen if rule(mask)]:
            notes.append(f"{len(files)} of {len(seen)} {sentence} ({_listed(files)})")
    for number, label in enumerate(folder.labels):
        if len(folder.labels) > 1 and seen and not any(mask.labels[number] for mask in seen):
            notes.append(f"no mask has a pixel of the label {label} (value {number + 1})")
    return tuple(notes)
