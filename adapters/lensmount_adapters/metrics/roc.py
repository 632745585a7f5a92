"""Choose which one-vs-rest ROC curves to plot.

A binary task has the curve of its second class. With many classes those with the lowest AUROC are chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

from sklearn import metrics as sk

from lensmount_adapters.metrics.scored import ScoredPart

MAX_CURVES = 7  # more are unreadable in one plot


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve: `points` are (false positive rate, true positive rate) from (0, 0) to (1, 1)."""

    label: str
    auroc: float
    points: tuple[tuple[float, float], ...]


def roc_curves(scored: ScoredPart, limit: int = MAX_CURVES) -> list[Curve]:
    """Return the curves to plot, or none if all images belong to one class.

    With two classes, the first class's curve is left out: it is the mirror image of the second's.
    """
    classes = scored.metrics.classes
    known = [(row.auroc, index) for index, row in enumerate(classes) if row.auroc is not None]
    if len(classes) == 2:
        known = known[1:]
    truth, scores = scored.truth.cpu(), scored.scores.detach().cpu().double()
    curves = []
    for auroc, index in sorted(known)[:limit] if len(known) > limit else known:
        false_positive, true_positive, _ = sk.roc_curve((truth == index).numpy(), scores[:, index].numpy())
        points = tuple(zip(false_positive.tolist(), true_positive.tolist(), strict=True))
        curves.append(Curve(classes[index].label, auroc, points))
    return curves
