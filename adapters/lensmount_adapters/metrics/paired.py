"""Two versions on the same images: which answers changed, and whether the difference may be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lensmount_adapters.metrics.classification import ClassificationMetrics
from lensmount_adapters.metrics.scored import ScoredPart


@dataclass(frozen=True, slots=True)
class Changed:
    """One image with another answer than before."""

    path: str
    truth: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Paired:
    """`gained` images are right only now, `lost` were right only before; `changed` lists the answers that differ.

    `p_value` is that of McNemar's exact test: how often chance alone makes a difference of at least this size, if
    both versions are equally good. Source: McNemar 1947, doi:10.1007/BF02295996.
    """

    images: int
    before: ClassificationMetrics
    after: ClassificationMetrics
    gained: int
    lost: int
    changed: tuple[Changed, ...]

    @property
    def p_value(self) -> float:
        return mcnemar(self.gained, self.lost)

    def to_json(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "before": self.before.to_json(),
            "gained": self.gained,
            "lost": self.lost,
            "changed": len(self.changed),
            "p_value": self.p_value,
        }


def pair(before: ScoredPart, after: ScoredPart, labels: Sequence[str]) -> Paired:
    """Compare two versions, whose parts hold the same images in the same order and the same `labels`."""
    truth = after.truth.cpu()
    first, second = _answers(before), _answers(after)
    was_right, is_right = first == truth, second == truth
    changed = tuple(
        Changed(after.paths[index], labels[int(truth[index])], labels[int(first[index])], labels[int(second[index])])
        for index in (first != second).nonzero().flatten().tolist()
    )
    gained, lost = int((is_right & ~was_right).sum()), int((was_right & ~is_right).sum())
    return Paired(len(truth), before.metrics, after.metrics, gained, lost, changed)


def mcnemar(gained: int, lost: int) -> float:
    """The two-sided exact p-value: twice the probability of at most min(gained, lost) heads in that many tosses."""
    tosses = gained + lost
    ways = fewer = 1  # to get no head; each step makes the next binomial coefficient of the one before
    for heads in range(1, min(gained, lost) + 1):
        ways = ways * (tosses - heads + 1) // heads
        fewer += ways
    return min(1.0, 2 * fewer / (1 << tosses))  # integers of any size, divided exactly


def _answers(scored: ScoredPart) -> Tensor:
    return scored.scores.detach().cpu().double().argmax(dim=1)
