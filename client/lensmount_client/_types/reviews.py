"""What a review of a dataset found, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class LabelDoubt:
    """An image whose label is doubted. `quality` is the probability of `label` (0 to 1), `suggested` a likelier one.

    `flagged` is True where confident learning finds another class; the others are listed because they come next.
    """

    path: str
    label: str
    suggested: str
    quality: float
    flagged: bool


@dataclass(frozen=True)
class LookAlike:
    """Two files that show the same. `leak`: in two stated parts of the split. `conflict`: with two labels."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    similarity: float
    leak: bool
    conflict: bool


@dataclass(frozen=True)
class DatasetReview:
    """What a person should look at, the most suspicious first: at most 200 of each kind, while the counts are exact.

    `accuracy` is the balanced accuracy of a head on the frozen features, None if no label can be checked.
    """

    name: str
    version: int
    images: int
    checked: int  # images whose label can be checked
    accuracy: float | None
    flagged: int  # labels that are likely wrong
    labels: tuple[LabelDoubt, ...]
    outliers: tuple[str, ...]  # paths of images unlike all others
    look_alikes: tuple[LookAlike, ...]
    notes: tuple[str, ...]  # sentences about what was found, with what to do
    raw: Mapping[str, Any] = field(repr=False)  # the review of the HTTP API, with distances and shortcuts

    def corrections(self) -> dict[str, str]:
        """The likelier label of each flagged image, by path. Look at each before you pass it to `datasets.relabel`."""
        return {doubt.path: doubt.suggested for doubt in self.labels if doubt.flagged}
