"""One part of a split, scored by an adapter: paths, true classes, scores, and the metrics computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lensmount_adapters.metrics.classification import ClassificationMetrics


@dataclass(frozen=True, slots=True, eq=False)
class ScoredPart:
    """`truth` [N] (class indices) and `scores` [N, classes] in [0, 1] are in the order of `paths`.

    `assessed` says how the adapter's promises were kept on them (trust/assess.py); None if nobody asked.
    """

    paths: tuple[str, ...]
    truth: Tensor
    scores: Tensor
    metrics: ClassificationMetrics
    assessed: Mapping[str, Any] | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One misclassified image. `score` belongs to the predicted class `answer`, `truth_score` to the true class."""

    path: str
    truth: str
    answer: str
    score: float
    truth_score: float


def worst_mistakes(scored: ScoredPart, limit: int) -> list[Mistake]:
    """Return the misclassified images with the highest scores, worst first. Equal scores are ordered by path."""
    scores = scored.scores.detach().cpu().double()
    best, predicted = scores.max(dim=1)
    truth = scored.truth.cpu()
    wrong = (predicted != truth).nonzero().flatten().tolist()
    wrong.sort(key=lambda index: (-float(best[index]), scored.paths[index]))
    labels = [row.label for row in scored.metrics.classes]
    return [
        Mistake(
            scored.paths[index],
            labels[int(truth[index])],
            labels[int(predicted[index])],
            float(best[index]),
            float(scores[index, int(truth[index])]),
        )
        for index in wrong[:limit]
    ]


def decisive_part(parts: Mapping[str, ScoredPart]) -> str | None:
    """Return the part to report: test if it exists, otherwise validation, otherwise the first.

    None if there are no parts.
    """
    return next((name for name in ("test", "validation", *parts) if name in parts), None)
