"""One part of a split as an adapter file answered it: paths, truth, scores, and the figures that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lensmount_adapters.metrics.classification import ClassificationMetrics


@dataclass(frozen=True, slots=True, eq=False)
class ScoredPart:
    """`truth` [N] (class indices) and `scores` [N, classes] in [0, 1] stand in the order of `paths`."""

    paths: tuple[str, ...]
    truth: Tensor
    scores: Tensor
    metrics: ClassificationMetrics


@dataclass(frozen=True, slots=True)
class Mistake:
    """One image that was answered wrongly; `score` is that of the wrong answer, `truth_score` that of the truth."""

    path: str
    truth: str
    answer: str
    score: float
    truth_score: float


def worst_mistakes(judged: ScoredPart, limit: int) -> list[Mistake]:
    """The images answered wrongly with the highest score, worst first; equal scores in the order of their paths."""
    scores = judged.scores.detach().cpu().double()
    best, answers = scores.max(dim=1)
    truth = judged.truth.cpu()
    wrong = (answers != truth).nonzero().flatten().tolist()
    wrong.sort(key=lambda index: (-float(best[index]), judged.paths[index]))
    labels = [row.label for row in judged.metrics.classes]
    return [
        Mistake(
            judged.paths[index],
            labels[int(truth[index])],
            labels[int(answers[index])],
            float(best[index]),
            float(scores[index, int(truth[index])]),
        )
        for index in wrong[:limit]
    ]


def decisive_part(parts: Mapping[str, ScoredPart]) -> str | None:
    """The part whose figures count: the test part, else validation, else the first there is; None without any."""
    return next((name for name in ("test", "validation", *parts) if name in parts), None)
