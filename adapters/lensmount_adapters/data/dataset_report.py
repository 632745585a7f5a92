"""What was found in a dataset: counts, sizes, copies and look-alikes, what was left out, and what to think about."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lensmount_adapters.data.dataset import Listed
from lensmount_adapters.data.labels import PARTS
from lensmount_adapters.data.near_duplicates import Likeness, alike

EXAMPLES = 10
MAX_PAIRS = 1_000_000  # counted; a dataset of one picture in thousands of versions has said enough by then
_MANY_IN_LARGEST = 10.0  # times the smallest class
_FEW_IN_CLASS = 20
_SMALL_SIDE = 32  # pixels


@dataclass(frozen=True, slots=True, eq=False)
class ImageFacts:
    """One image as it was read."""

    path: str
    label: str
    group: str | None
    split: str | None
    digest: str
    width: int
    height: int
    format: str
    size_bytes: int
    likeness: Likeness


@dataclass(frozen=True, slots=True)
class Unreadable:
    path: str
    reason: str


def format_of(data: bytes) -> str:
    """The format of an image that was decoded, by its first bytes."""
    if data.startswith(b"\x89PNG"):
        return "PNG"
    if data.startswith(b"\xff\xd8"):
        return "JPEG"
    return "WEBP" if data.startswith(b"RIFF") else "TIFF"


def findings(listed: Listed, pictures: list[ImageFacts], unreadable: list[Unreadable]) -> dict[str, Any]:
    """The report, as JSON; `pictures` stand in the order of their paths and are at least one."""
    counts = Counter(picture.label for picture in pictures)
    copies, near = _copies(pictures), _near(pictures)
    sides = sorted(((p.width, p.height) for p in pictures), key=lambda side: (side[0] * side[1], side))
    parts = Counter(picture.split for picture in pictures)
    smallest = min(listed.classes, key=lambda name: counts[name])
    largest = max(listed.classes, key=lambda name: counts[name])
    ignored = [*listed.ignored, *listed.hidden]
    report: dict[str, Any] = {
        "images": len(pictures),
        "classes": {name: counts[name] for name in listed.classes},
        "groups": len({picture.group for picture in pictures} - {None}),
        "splits": {part: parts[part] for part in PARTS} if set(parts) != {None} else None,
        "sizes": {"min": list(sides[0]), "median": list(sides[len(sides) // 2]), "max": list(sides[-1])},
        "formats": dict(sorted(Counter(picture.format for picture in pictures).items())),
        "bytes": sum(picture.size_bytes for picture in pictures),
        "duplicates": {
            "files": sum(len(group) - 1 for group in copies),
            "examples": [[group[0].path, group[1].path] for group in copies[:EXAMPLES]],
        },
        "near_duplicates": near.document(pictures),
        "unreadable": {
            "files": len(unreadable),
            "examples": [{"path": one.path, "reason": one.reason} for one in unreadable[:EXAMPLES]],
        },
        "ignored": {"files": len(ignored), "examples": ignored[:EXAMPLES]},
        "balance": {"smallest": smallest, "largest": largest, "ratio": round(counts[largest] / counts[smallest], 3)},
    }
    report["warnings"] = [
        {"code": code, "message": message} for code, message in _warnings(pictures, copies, near, report)
    ]
    return report


@dataclass(slots=True)
class _Near:
    """Pairs that look alike and are not the same bytes."""

    pairs: int = 0
    across_splits: int = 0
    across_classes: int = 0
    examples: list[tuple[int, int]] | None = None

    def document(self, pictures: list[ImageFacts]) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "across_splits": self.across_splits,
            "across_classes": self.across_classes,
            "examples": [[pictures[i].path, pictures[j].path] for i, j in self.examples or []],
        }


def _near(pictures: list[ImageFacts]) -> _Near:
    """Look-alikes among the distinct files: of byte-identical copies only the first is compared."""
    first: dict[str, int] = {}
    for index, picture in enumerate(pictures):
        first.setdefault(picture.digest, index)
    kept = np.array(sorted(first.values()))  # indices of pictures
    labels = _coded(picture.label for picture in pictures)
    splits = _coded(picture.split for picture in pictures)
    found = _Near(examples=[])
    shown: list[tuple[bool, int, int]] = []
    for block in alike([pictures[index].likeness for index in kept]):
        i, j = kept[block[:, 0]], kept[block[:, 1]]
        torn = labels[i] != labels[j]
        leaking = (splits[i] != splits[j]) & (splits[i] >= 0) & (splits[j] >= 0)
        found.pairs += len(block)
        found.across_classes += int(torn.sum())
        found.across_splits += int(leaking.sum())
        telling = torn | leaking
        chosen = np.concatenate([np.flatnonzero(telling)[:EXAMPLES], np.flatnonzero(~telling)[:EXAMPLES]])
        shown += [(not telling[row], int(i[row]), int(j[row])) for row in chosen]
        shown = sorted(shown)[:EXAMPLES]  # those across classes or parts first
        if found.pairs >= MAX_PAIRS:
            break
    found.examples = [(i, j) for _, i, j in shown]
    return found


def _coded(values: Iterable[str | None]) -> np.ndarray:
    """Each distinct text as a number, None as -1."""
    codes: dict[str, int] = {}
    return np.array([-1 if value is None else codes.setdefault(value, len(codes)) for value in values])


def _copies(pictures: list[ImageFacts]) -> list[list[ImageFacts]]:
    by_digest: dict[str, list[ImageFacts]] = defaultdict(list)
    for picture in pictures:
        by_digest[picture.digest].append(picture)
    return [group for group in by_digest.values() if len(group) > 1]


def _warnings(
    pictures: list[ImageFacts], copies: list[list[ImageFacts]], near: _Near, report: dict[str, Any]
) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    leaking = [group for group in copies if len({p.split for p in group} - {None}) > 1]
    torn_groups = _groups_in_two_parts(pictures)
    if leaking or near.across_splits or torn_groups:
        found.append(
            (
                "leakage_suspected",
                f"{len(leaking)} picture(s) stand in two parts of the stated split as copies, {near.across_splits} "
                f"pair(s) across parts look alike, {len(torn_groups)} group(s) are in two parts: "
                "the figures of validation and test would flatter. Fix: keep them in one part",
            )
        )
    torn = [group for group in copies if len({picture.label for picture in group}) > 1]
    if torn or near.across_classes:
        found.append(
            (
                "label_conflict",
                f"{len(torn)} picture(s) have two labels as copies, {near.across_classes} pair(s) of different labels "
                "look alike. Fix: check their labels",
            )
        )
    if files := report["duplicates"]["files"]:
        found.append(
            ("duplicates", f"{files} file(s) are byte-identical copies; copies stay together when a split is drawn")
        )
    if near.pairs >= MAX_PAIRS:
        found.append(("many_near_duplicates", f"more than {MAX_PAIRS} pairs look alike; counting stopped there"))
    if files := report["unreadable"]["files"]:
        found.append(("unreadable", f"{files} image(s) cannot be read and were left out"))
    balance = report["balance"]
    if balance["ratio"] >= _MANY_IN_LARGEST:
        found.append(
            (
                "imbalanced",
                f"{balance['largest'][:80]!r} has {balance['ratio']:g} times the images of "
                f"{balance['smallest'][:80]!r}; training weighs classes evenly, but the small one is judged on few",
            )
        )
    fewest = report["classes"][balance["smallest"]]
    if fewest < _FEW_IN_CLASS:
        found.append(
            (
                "few_images",
                f"{balance['smallest'][:80]!r} has {fewest} image(s): figures on its test part will be rough",
            )
        )
    if splits := report["splits"]:
        by_part: dict[str | None, set[str]] = defaultdict(set)
        for picture in pictures:
            by_part[picture.split].add(picture.label)
        for part in ("validation", "test"):
            if splits[part] and len(by_part[part]) < len(report["classes"]):
                found.append(("split_incomplete", f"the stated {part} part lacks a class"))
    smallest = min(pictures, key=lambda picture: min(picture.width, picture.height))
    if min(smallest.width, smallest.height) < _SMALL_SIDE:
        found.append(("small_images", f"the smallest image has {smallest.width} x {smallest.height} pixels"))
    return found


def _groups_in_two_parts(pictures: list[ImageFacts]) -> list[str]:
    parts: dict[str, set[str]] = defaultdict(set)
    for picture in pictures:
        if picture.group is not None and picture.split is not None:
            parts[picture.group].add(picture.split)
    return [group for group, found in parts.items() if len(found) > 1]
