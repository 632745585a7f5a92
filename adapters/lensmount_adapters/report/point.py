"""The positive label of a report, and its figures at the threshold that is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.metrics.diagnostic import Diagnostic, Estimate, diagnose
from lensmount_adapters.metrics.scored import ScoredPart
from lensmount_adapters.report.context import ReportContext
from lensmount_adapters.report.record import TrainingRecord


@dataclass(frozen=True, slots=True)
class Point:
    """`rule` says in words when an image is called positive. `expected` are PPV and NPV at `prevalence`,
    None where no image was called so."""

    diagnostic: Diagnostic
    rule: str
    prevalence: float | None
    expected: tuple[Estimate | None, Estimate | None] | None

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, figure and meaning of each; a figure of no images is "n/a"."""
        found, label = self.diagnostic, self.diagnostic.positive
        rows = [
            ("sensitivity", found.sensitivity, f"of the images of {label}, those called {label}"),
            ("specificity", found.specificity, f"of the other images, those not called {label}"),
            ("PPV", found.ppv, f"of the images called {label}, those that are {label}"),
            ("NPV", found.npv, f"of the images not called {label}, those that are not {label}"),
        ]
        shown = [(name, "n/a" if share is None else str(share), meaning) for name, share, meaning in rows]
        if self.expected is not None and self.prevalence is not None:
            where = f"where {100 * self.prevalence:g} % of all images are {label}"
            pairs = zip(("PPV", "NPV"), self.expected, strict=True)
            shown += [(name, "n/a" if value is None else str(value), where) for name, value in pairs]
        return shown

    def to_json(self) -> dict[str, Any]:
        document = self.diagnostic.to_json()
        if self.expected is not None:
            names = ("ppv", "npv")
            figures = {
                name: None if each is None else {"value": each.value, "low": each.low, "high": each.high}
                for name, each in zip(names, self.expected, strict=True)
            }
            document["at_prevalence"] = {"prevalence": self.prevalence, **figures}
        return document


def point_of(manifest: Manifest, record: TrainingRecord, scored: ScoredPart, context: ReportContext) -> Point | None:
    """The figures of the positive label that the context, the file's promise or its record names; None without one."""
    operating = None if manifest.trust is None else manifest.trust.operating
    positive = positive_label(manifest, record, context.positive)
    if positive is None:
        return None
    threshold = operating.threshold if operating is not None and operating.positive == positive else None
    diagnostic = diagnose(scored.truth, scored.scores, manifest.labels, positive, threshold)
    prevalence = record.prevalence if context.prevalence is None else context.prevalence
    expected = None if prevalence is None else diagnostic.predictive_values(prevalence)
    return Point(diagnostic, _rule(positive, threshold, len(manifest.labels)), prevalence, expected)


def positive_label(manifest: Manifest, record: TrainingRecord, asked: str | None) -> str | None:
    """The label that is `asked` for, or the one that the file's promise or its record names; None without one."""
    operating = None if manifest.trust is None else manifest.trust.operating
    positive = asked or (None if operating is None else operating.positive) or record.positive
    return positive if positive in manifest.labels else None


def _rule(positive: str, threshold: float | None, classes: int) -> str:
    if threshold is not None:
        return f"An image is called {positive} if the score of {positive} is at least {threshold:.3f}."
    above = ", which is above 0.5" if classes == 2 else ""
    return f"An image is called {positive} if the score of {positive} is the highest{above}."
