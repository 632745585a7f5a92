"""Find classes that can be told without looking at what the images show: by their files, their borders, their colour.

`data/metadata_probe.py` asks for one trait with a few values. This probe combines all of a kind, numbers included, with
a logistic model that is asked about images it was not fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lensmount_adapters.quality.out_of_fold import out_of_fold_probabilities

AUROC = 0.8  # from which on a kind of surface is reported
FEWEST = 8  # images of the class, and of all others: fewer can agree by chance
_STRENGTH = 10.0  # there are few columns


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A kind of surface ("file", "border", "colour") that tells a class from the others with this AUROC (0 to 1)."""

    kind: str
    label: str
    auroc: float


def find_shortcuts(
    columns: Mapping[str, np.ndarray], labels: np.ndarray, groups: Sequence[str], classes: Sequence[str]
) -> list[Shortcut]:
    """Return the class that each kind of surface tells best, if its AUROC reaches 0.8; the surest first."""
    found = [_best(kind, values, labels, groups, classes) for kind, values in columns.items()]
    kept = [shortcut for shortcut in found if shortcut is not None and shortcut.auroc >= AUROC]
    return sorted(kept, key=lambda shortcut: -shortcut.auroc)


def _best(
    kind: str, values: np.ndarray, labels: np.ndarray, groups: Sequence[str], classes: Sequence[str]
) -> Shortcut | None:
    from sklearn.metrics import roc_auc_score

    if not (np.ptp(values, axis=0) > 0).any():
        return None
    probabilities = out_of_fold_probabilities(values, labels, groups, len(classes), strength=_STRENGTH)
    checked = np.isfinite(probabilities).all(axis=1)
    best: Shortcut | None = None
    for index, label in enumerate(classes):
        of_class = labels[checked] == index
        if min(of_class.sum(), (~of_class).sum()) < FEWEST:
            continue
        auroc = float(roc_auc_score(of_class, probabilities[checked, index]))
        if best is None or auroc > best.auroc:
            best = Shortcut(kind, label, auroc)
    return best
