"""Find classes that can be told apart without looking at what the images show: by format, colour mode, size or border.

A network would learn that trait instead of the content, and fail on images that were stored in another way. Each trait
is scored as a rule with one question: given its value, is this an image of the class or of another one? An image is
left out of the counts when the rule is asked about it, so that a value which occurs once tells nothing. Sizes are
compared in 16 intervals with equal numbers of images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lensmount_adapters.data.image_facts import ImageFacts

ACCURACY = 0.9  # balanced accuracy of a rule from which on it is reported; guessing has 0.5
FEWEST = 8  # distinct images of the class, and of all others: fewer can agree by chance
_INTERVALS = 16
_VALUES = 256  # different values of a trait; the rarer ones count as one
_LOSSY = ("JPEG", "WEBP", "JPEG2000", "AVIF", "HEIC")
_BYTES_APART = 1.5  # times as many bytes per pixel


@dataclass(frozen=True, slots=True)
class Tell:
    """A trait that tells a class from the others with this balanced accuracy (0 to 1). `how` says it in words."""

    label: str
    trait: str
    accuracy: float
    how: str


def telling_traits(images: Sequence[ImageFacts]) -> list[Tell]:
    """Return the traits that give a class away, the surest first. With two classes, only the first one is named."""
    distinct = list({image.digest: image for image in images}.values())
    labels = sorted({image.label for image in distinct})
    codes = _codes(distinct, labels)
    counts = np.bincount(codes, minlength=len(labels))
    asked = [index for index, count in enumerate(counts) if count >= FEWEST and len(distinct) - count >= FEWEST][
        : 1 if len(labels) == 2 else None
    ]
    found: list[Tell] = []
    for trait, values in _columns(distinct).items():
        kept = {value for value, _ in Counter(values).most_common(_VALUES)}
        if len(kept) > 1 and asked:
            texts = [value if value in kept else "others" for value in values]
            found += _tells(trait, texts, codes, labels, asked)
    if asked:
        found += _by_bytes(distinct, codes, labels, asked)
    return sorted(found, key=lambda tell: -tell.accuracy)


def _codes(images: Sequence[ImageFacts], labels: Sequence[str]) -> np.ndarray:
    index = {label: number for number, label in enumerate(labels)}
    return np.array([index[image.label] for image in images])


def _columns(images: Sequence[ImageFacts]) -> dict[str, list[str]]:
    """The values of each trait, one per image."""
    names = dict.fromkeys(name for image in images for name in image.traits)
    columns = {name: [image.traits.get(name, "none") or "none" for image in images] for name in names}
    columns["width"] = _intervals([image.width for image in images])
    columns["height"] = _intervals([image.height for image in images])
    columns["shape"] = _intervals([round(image.width / image.height, 2) for image in images])
    return columns


def _intervals(numbers: Sequence[float]) -> list[str]:
    """Replace each number by its interval, such as "100 to 120", or by itself if there are few different ones."""
    values = np.array(numbers, dtype=float)
    if len(np.unique(values)) <= _INTERVALS:
        return [f"{value:g}" for value in values]
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _INTERVALS + 1)))
    at = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return [f"{edges[index]:g} to {edges[index + 1]:g}" for index in at]


def _tells(
    trait: str, values: Sequence[str], codes: np.ndarray, labels: Sequence[str], asked: Sequence[int]
) -> list[Tell]:
    names = list(dict.fromkeys(values))
    index = {name: number for number, name in enumerate(names)}
    table = np.zeros((len(names), len(labels)))  # images by value and class
    np.add.at(table, (np.array([index[value] for value in values]), codes), 1)
    inside = table[:, asked]  # [values, asked classes]
    outside = table.sum(axis=1, keepdims=True) - inside
    all_inside, all_outside = inside.sum(axis=0), outside.sum(axis=0)
    hits = inside * ((inside - 1) / np.maximum(1, all_inside - 1) > outside / all_outside)
    misses = outside * ((outside - 1) / np.maximum(1, all_outside - 1) < inside / all_inside)
    accuracy = (hits.sum(axis=0) / all_inside + 1 - misses.sum(axis=0) / all_outside) / 2
    tells: list[Tell] = []
    for column, label in enumerate(asked):
        if accuracy[column] >= ACCURACY:
            here, there = int(inside[:, column].argmax()), int(outside[:, column].argmax())
            how = (
                f"{names[here]!r} in {int(inside[here, column])} of {int(all_inside[column])}, "
                f"{names[there]!r} in {int(outside[there, column])} of the {int(all_outside[column])} others"
            )
            tells.append(Tell(labels[label], trait, float(accuracy[column]), how))
    return tells


def _by_bytes(
    images: Sequence[ImageFacts], codes: np.ndarray, labels: Sequence[str], asked: Sequence[int]
) -> list[Tell]:
    """Compare the bytes per pixel of compressed photographs. What an image shows matters too, so a gap must be wide."""
    density = np.array([image.size_bytes / (image.width * image.height) for image in images])
    lossy = np.array([image.format in _LOSSY for image in images])
    tells: list[Tell] = []
    for label in asked:
        mine, others = density[lossy & (codes == label)], density[lossy & (codes != label)]
        if min(len(mine), len(others)) < FEWEST:
            continue
        high, low = (mine, others) if np.median(mine) > np.median(others) else (others, mine)
        if np.quantile(high, 0.05) > _BYTES_APART * np.quantile(low, 0.95):
            how = f"a median of {np.median(mine):.2f} against {np.median(others):.2f}"
            tells.append(Tell(labels[label], "bytes per pixel", 0.95, how))
    return tells
