"""The report on a dataset: counts, sizes, copies, near duplicates, files left out, and warnings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lensmount_adapters.data.broken_files import Unreadable
from lensmount_adapters.data.data_warnings import warnings_about_groups, warnings_about_images
from lensmount_adapters.data.dataset import Listed
from lensmount_adapters.data.image_facts import ImageFacts
from lensmount_adapters.data.labels import PARTS
from lensmount_adapters.data.near_duplicates import alike
from lensmount_adapters.data.source import ArchiveSource
from lensmount_adapters.data.split_advice import (
    MAX_SPLIT_IMAGES,
    SplitOptions,
    StatedImage,
    folder_of,
    split_with,
    why_no_split,
)

EXAMPLES = 10
# Counting stops here: a dataset with one image in thousands of versions needs no exact count.
MAX_PAIRS = 1_000_000
_MANY_IN_LARGEST = 10.0  # times the smallest class
_FEW_IN_CLASS = 20
_SMALL_SIDE = 32  # pixels


def warnings_about_look_alikes(images: list[ImageFacts]) -> list[tuple[str, str]]:
    """Return `look_alikes_divided` if images that look alike are in different parts or have different labels."""
    near = _near(images)
    found: list[tuple[str, str]] = []
    divided = [(i, j) for i, j in near.examples or [] if images[i].split != images[j].split]
    conflicts = [(i, j) for i, j in near.examples or [] if images[i].label != images[j].label]
    if near.across_splits:
        found.append(
            (
                "look_alikes_divided",
                f"{near.across_splits} pair(s) of images in different parts of the split look alike"
                f"{_turned(near.turned_splits)}{_pair_of(images, divided)}. "
                "The figures would be too good. Fix: put such images into one group",
            )
        )
    if near.across_classes:
        found.append(
            (
                "label_conflict",
                f"{near.across_classes} pair(s) of images of different classes look alike"
                f"{_turned(near.turned_classes)}{_pair_of(images, conflicts)}. Fix: check their labels",
            )
        )
    return found


def _turned(pairs: int) -> str:
    return f" ({pairs} of them are mirrored or turned)" if pairs else ""


def _pair_of(images: list[ImageFacts], pairs: list[tuple[int, int]]) -> str:
    return f", such as {images[pairs[0][0]].path[:120]} and {images[pairs[0][1]].path[:120]}" if pairs else ""


def findings(listed: Listed, images: list[ImageFacts], unreadable: list[Unreadable]) -> dict[str, Any]:
    """Return the report as JSON. `images` has at least one image and is in the order of paths.

    The warnings are about the images as they were sent, and about a job with the default options: whether it can split
    them, and whether its split would divide groups.
    """
    counts = Counter(image.label for image in images)
    copies, near = _copies(images), _near(images)
    sides = sorted(((p.width, p.height) for p in images), key=lambda side: (side[0] * side[1], side))
    parts = Counter(image.split for image in images)
    smallest = min(listed.classes, key=lambda name: counts[name])
    largest = max(listed.classes, key=lambda name: counts[name])
    ignored = [*listed.ignored, *listed.hidden]
    report: dict[str, Any] = {
        "images": len(images),
        "classes": {name: counts[name] for name in listed.classes},
        "groups": len({image.group for image in images} - {None}),
        "splits": {part: parts[part] for part in PARTS} if set(parts) != {None} else None,
        "sizes": {"min": list(sides[0]), "median": list(sides[len(sides) // 2]), "max": list(sides[-1])},
        "formats": dict(sorted(Counter(image.format for image in images).items())),
        "bytes": sum(image.size_bytes for image in images),
        "duplicates": {
            "files": sum(len(group) - 1 for group in copies),
            "examples": [[group[0].path, group[1].path] for group in copies[:EXAMPLES]],
        },
        "near_duplicates": near.to_json(images),
        "unreadable": {
            "files": len(unreadable),
            "examples": [{"path": file.path, "reason": file.reason} for file in unreadable[:EXAMPLES]],
        },
        "ignored": {"files": len(ignored), "examples": [_plain(name) for name in ignored[:EXAMPLES]]},
        "notes": list(listed.notes),
        "balance": {"smallest": smallest, "largest": largest, "ratio": round(counts[largest] / counts[smallest], 3)},
    }
    warnings = _warnings(images, copies, near, report) + warnings_about_images(images) + _about_default_job(images)
    if isinstance(listed.source, ArchiveSource):
        warnings += [("names_changed", note) for note in listed.source.archive.notes]
    report["warnings"] = [{"code": code, "message": message} for code, message in warnings]
    return report


def _plain(name: str) -> str:
    """A name without control characters, such as that of `Icon\\r`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _about_default_job(images: list[ImageFacts]) -> list[tuple[str, str]]:
    """Warn if a job with the default options cannot split the images, or would divide groups between its parts."""
    folder = folder_of([StatedImage(i.path, i.label, i.group, i.split, i.digest) for i in images])
    if len(images) > MAX_SPLIT_IMAGES:
        return warnings_about_groups(folder, None)
    reason = why_no_split(folder)
    if reason is not None:
        return [("cannot_split", reason), *warnings_about_groups(folder, None)]
    return warnings_about_groups(folder, split_with(folder, SplitOptions()))


@dataclass(slots=True)
class _Near:
    """Pairs of images that look alike but have different bytes."""

    pairs: int = 0
    across_splits: int = 0
    across_classes: int = 0
    turned_splits: int = 0  # of those across splits, the ones of which one image is mirrored or turned
    turned_classes: int = 0
    examples: list[tuple[int, int]] | None = None

    def to_json(self, images: list[ImageFacts]) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "across_splits": self.across_splits,
            "across_classes": self.across_classes,
            "examples": [[images[i].path, images[j].path] for i, j in self.examples or []],
        }


def _near(images: list[ImageFacts]) -> _Near:
    """Find near duplicates among the distinct files. Of byte-identical copies only the first is compared."""
    first: dict[str, int] = {}
    for index, image in enumerate(images):
        first.setdefault(image.digest, index)
    kept = np.array(sorted(first.values()))  # indices of images
    labels = _coded(image.label for image in images)
    splits = _coded(image.split for image in images)
    near = _Near(examples=[])
    shown: list[tuple[bool, int, int]] = []
    for block in alike([images[index].likeness for index in kept]):
        i, j = kept[block[:, 0]], kept[block[:, 1]]
        conflicting = labels[i] != labels[j]
        leaking = (splits[i] != splits[j]) & (splits[i] >= 0) & (splits[j] >= 0)
        near.pairs += len(block)
        near.across_classes += int(conflicting.sum())
        near.across_splits += int(leaking.sum())
        turned = block[:, 2] > 0
        near.turned_classes += int((conflicting & turned).sum())
        near.turned_splits += int((leaking & turned).sum())
        serious = conflicting | leaking
        chosen = np.concatenate([np.flatnonzero(serious)[:EXAMPLES], np.flatnonzero(~serious)[:EXAMPLES]])
        shown += [(not serious[row], int(i[row]), int(j[row])) for row in chosen]
        shown = sorted(shown)[:EXAMPLES]  # pairs across classes or parts come first
        if near.pairs >= MAX_PAIRS:
            break
    near.examples = [(i, j) for _, i, j in shown]
    return near


def _coded(values: Iterable[str | None]) -> np.ndarray:
    """Encode each distinct text as a number, and None as -1."""
    codes: dict[str, int] = {}
    return np.array([-1 if value is None else codes.setdefault(value, len(codes)) for value in values])


def _copies(images: list[ImageFacts]) -> list[list[ImageFacts]]:
    by_digest: dict[str, list[ImageFacts]] = defaultdict(list)
    for image in images:
        by_digest[image.digest].append(image)
    return [group for group in by_digest.values() if len(group) > 1]


def _those_found(*counted: tuple[int, str]) -> str:
    """`found 3 image(s) with ..., 1 group(s) in ...`, without those that are 0."""
    return "found " + ", ".join(f"{count} {what}" for count, what in counted if count)


def _warnings(
    images: list[ImageFacts], copies: list[list[ImageFacts]], near: _Near, report: dict[str, Any]
) -> list[tuple[str, str]]:
    warnings: list[tuple[str, str]] = []
    leaking = [group for group in copies if len({p.split for p in group} - {None}) > 1]
    split_groups = _groups_in_two_parts(images)
    if leaking or near.across_splits or split_groups:
        warnings.append(
            (
                "leakage_suspected",
                _those_found(
                    (len(leaking), "image(s) with copies in two parts of the stated split"),
                    (
                        near.across_splits,
                        f"pair(s) of images in two parts that look alike{_turned(near.turned_splits)}",
                    ),
                    (len(split_groups), "group(s) in two parts"),
                )
                + ": the validation and test figures would be too good. Fix: keep them in one part",
            )
        )
    conflicting = [group for group in copies if len({image.label for image in group}) > 1]
    turned = _turned(near.turned_classes)
    if conflicting or near.across_classes:
        warnings.append(
            (
                "label_conflict",
                _those_found(
                    (len(conflicting), "image(s) with copies of another label"),
                    (near.across_classes, f"pair(s) of images that look alike and have different labels{turned}"),
                )
                + ". Fix: check their labels",
            )
        )
    if files := report["duplicates"]["files"]:
        warnings.append(
            ("duplicates", f"{files} file(s) are byte-identical copies; copies stay together when a split is drawn")
        )
    if near.pairs >= MAX_PAIRS:
        warnings.append(("many_near_duplicates", f"more than {MAX_PAIRS} pairs look alike; counting stopped there"))
    if files := report["unreadable"]["files"]:
        warnings.append(("unreadable", f"{files} image(s) cannot be read and were left out"))
    return [*warnings, *_about_counts(report), *_warnings_about_parts(images, report), *_warnings_about_sizes(images)]


def _about_counts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Warnings about few images, and about classes of very different size."""
    warnings: list[tuple[str, str]] = []
    balance = report["balance"]
    if balance["ratio"] >= _MANY_IN_LARGEST:
        warnings.append(
            (
                "imbalanced",
                f"{balance['largest'][:80]!r} has {balance['ratio']:g} times the images of "
                f"{balance['smallest'][:80]!r}; training weights classes evenly, but the small class is evaluated on "
                "few images",
            )
        )
    fewest = report["classes"][balance["smallest"]]
    if fewest < _FEW_IN_CLASS:
        warnings.append(
            (
                "few_images",
                f"{balance['smallest'][:80]!r} has {fewest} image(s): figures on its test part will be rough",
            )
        )
    return warnings


def _warnings_about_parts(images: list[ImageFacts], report: dict[str, Any]) -> list[tuple[str, str]]:
    warnings: list[tuple[str, str]] = []
    if splits := report["splits"]:
        by_part: dict[str | None, set[str]] = defaultdict(set)
        for image in images:
            by_part[image.split].add(image.label)
        for part in ("validation", "test"):
            if splits[part] and len(by_part[part]) < len(report["classes"]):
                warnings.append(("split_incomplete", f"the stated {part} part lacks a class"))
    return warnings


def _warnings_about_sizes(images: list[ImageFacts]) -> list[tuple[str, str]]:
    smallest = min(images, key=lambda image: min(image.width, image.height))
    if min(smallest.width, smallest.height) >= _SMALL_SIDE:
        return []
    return [("small_images", f"the smallest image has {smallest.width} x {smallest.height} pixels")]


def _groups_in_two_parts(images: list[ImageFacts]) -> list[str]:
    parts: dict[str, set[str]] = defaultdict(set)
    for image in images:
        if image.group is not None and image.split is not None:
            parts[image.group].add(image.split)
    return [group for group, its_parts in parts.items() if len(its_parts) > 1]
