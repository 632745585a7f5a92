"""The ROC curves worth drawing: each class against the rest, of two the second, of many those with the lowest AUROC."""

from __future__ import annotations

from dataclasses import dataclass

from sklearn import metrics as sk

from lensmount_adapters.metrics.scored import ScoredPart

MAX_CURVES = 7  # more are a tangle


@dataclass(frozen=True, slots=True)
class Curve:
    """`points` are (false positive rate, true positive rate) from (0, 0) to (1, 1)."""

    label: str
    auroc: float
    points: tuple[tuple[float, float], ...]


def roc_curves(judged: ScoredPart, limit: int = MAX_CURVES) -> list[Curve]:
    """Empty where every image is of one class. Of two classes the first's curve would be the mirror image."""
    classes = judged.metrics.classes
    known = [(row.auroc, index) for index, row in enumerate(classes) if row.auroc is not None]
    if len(classes) == 2:
        known = known[1:]
    truth, scores = judged.truth.cpu(), judged.scores.detach().cpu().double()
    found = []
    for auroc, index in sorted(known)[:limit] if len(known) > limit else known:
        false_positive, true_positive, _ = sk.roc_curve((truth == index).numpy(), scores[:, index].numpy())
        points = tuple(zip(false_positive.tolist(), true_positive.tolist(), strict=True))
        found.append(Curve(classes[index].label, auroc, points))
    return found
