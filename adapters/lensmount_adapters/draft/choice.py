"""Which images a draft is solved on: at least a few of each class, and at most as many as one request can compute."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from lensmount_adapters.errors import DatasetError

LEAST_OF_A_CLASS = 5
MOST_OF_A_CLASS = 200
MOST_IMAGES = 1000
MOST_CLASSES = MOST_IMAGES // LEAST_OF_A_CLASS


@dataclass(frozen=True, slots=True)
class Known:
    """One labelled image: the index of its class, its group, and the SHA-256 of its bytes."""

    path: str
    label: int
    group: str
    digest: str


def chosen(images: Sequence[Known], classes: Sequence[str]) -> list[Known]:
    """The images to solve on, in their order: each content once, and at most `most_of_a_class` of a class.

    They are drawn by their digests, so that an image stays chosen while others are added, as far as there is room.
    Raises DatasetError: `draft_needs_images`, or too many classes.
    """
    if len(classes) > MOST_CLASSES:
        raise DatasetError(
            f"found {len(classes)} classes, expected at most {MOST_CLASSES} for a draft. Fix: train an adapter instead"
        )
    distinct = list({(image.digest, image.label): image for image in images}.values())
    places: dict[int, list[int]] = {label: [] for label in range(len(classes))}
    for place, image in enumerate(distinct):
        places[image.label].append(place)
    if few := [f"{len(of)} of {classes[label][:80]!r}" for label, of in places.items() if len(of) < LEAST_OF_A_CLASS]:
        named = ", ".join(few[:10]) + (", ..." if len(few) > 10 else "")
        raise DatasetError(
            f"found {named}, expected at least {LEAST_OF_A_CLASS} different images in each class. "
            "Fix: add images to these classes, or leave the classes out",
            code="draft_needs_images",
        )
    most = most_of_a_class(len(classes))
    drawn = {place for of in places.values() for place in sorted(of, key=lambda each: _lot(distinct[each]))[:most]}
    return [image for place, image in enumerate(distinct) if place in drawn]


def most_of_a_class(classes: int) -> int:
    """How many images of a class are used."""
    return min(MOST_OF_A_CLASS, MOST_IMAGES // classes)


def _lot(image: Known) -> bytes:
    return hashlib.sha256(f"draft {image.digest}".encode()).digest()
