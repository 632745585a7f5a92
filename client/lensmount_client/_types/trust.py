"""Whether an answer can be relied on, and that in plain words for people; the web page says the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SURE, NOT_SURE, UNLIKE = "sure", "not sure", "unlike the images this was trained on"
NOT_MEASURED = "reliability not measured"  # nothing says how often such an answer is right
NAMED = 3  # labels of a set that are named


@dataclass(frozen=True)
class Unfamiliarity:
    """How unlike the training images an image is.

    `percentile` (0 to 100) is the part of the images kept aside in training that were less so. `flag` says that it
    reaches the threshold of the adapter or of the alias.
    """

    percentile: float
    flag: bool


@dataclass(frozen=True)
class TrustBasis:
    """What a decision rests on: the number of images that were kept aside in training, and what they showed.

    `ece` is their calibration error, from 0 to 1. `coverage` is the share of images whose set holds the right label.
    """

    images: int
    ece: float | None
    coverage: float | None


@dataclass(frozen=True)
class Trust:
    """Whether an answer can be relied on.

    `decision` is "unfamiliar" for an image unlike the training images, "uncertain" for another one whose score is too
    low, and "accept" otherwise. `confidence` is the best score, from 0 to 1. `set` has the labels that may be right. A
    part that the adapter has not measured is None.
    """

    decision: str
    confidence: float
    set: tuple[str, ...] | None
    unfamiliarity: Unfamiliarity | None
    calibration: TrustBasis | None


def trust_words(trust: Trust | None) -> str:
    """For example "not sure: a or b"; empty for an adapter that has measured nothing.

    An accepted answer is "reliability not measured" if the adapter knows what its training images look like, but had
    too few images to measure how often it is right.
    """
    if trust is None:
        return ""
    if trust.decision == "accept":
        return NOT_MEASURED if trust.set is None and trust.calibration is None else SURE
    if trust.decision == "unfamiliar":
        return UNLIKE
    return f"{NOT_SURE}: {any_of(trust.set)}" if trust.set else NOT_SURE


def any_of(labels: Sequence[str]) -> str:
    """ "a", "a or b", "a, b or c", "a, b, c or 2 others"."""
    rest = len(labels) - NAMED
    names = list(labels) if rest <= 0 else [*labels[:NAMED], f"{rest} other{'s' if rest > 1 else ''}"]
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
