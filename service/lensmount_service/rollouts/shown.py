"""What a rollout has shown so far, as GET /adapters/{name}/rollouts/{alias} tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lensmount_service.rollout_spec import Rollout, Side
from lensmount_service.rollouts.evidence import Evidence
from lensmount_service.rollouts.labelled import Labelled, compared
from lensmount_service.rollouts.rows import Rows
from lensmount_service.rollouts.rules import Finding, findings
from lensmount_service.rollouts.sequential import p_value
from lensmount_service.rollouts.tally import OTHER, Compared, Counts, Tally

MOST_LABELS = 50  # of a confusion matrix


@dataclass(frozen=True, slots=True)
class Shown:
    """`to_json()` is the part of the answer that rests on evidence."""

    rollout: Rollout
    counts: Counts
    labelled: Labelled | None
    findings: Sequence[Finding]

    def to_json(self) -> dict[str, Any]:
        counts, rollout = self.counts, self.rollout
        sides: dict[Side, int] = {"stable": rollout.stable}
        if rollout.canary is not None:
            sides["canary"] = rollout.canary.version
        if rollout.shadow is not None:
            sides["shadow"] = rollout.shadow.version
        stable, canary = counts.side("stable").requests, counts.side("canary").requests
        return {
            "sides": {side: {"version": version, **_side(counts.side(side))} for side, version in sides.items()},
            "share": canary / (stable + canary) if stable + canary else None,
            "without_key": counts.without_key,
            "compared": None if rollout.shadow is None else _compared(counts.compared),
            "labelled": None if self.labelled is None else _labelled(self.labelled),
            "labels_dropped": counts.labels_dropped,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def evidence(self) -> dict[str, Any]:
        """What an event keeps of it: the findings, and the figures of each side without those of each label."""
        told = self.to_json()
        for side in told["sides"].values():
            del side["labels"]
        return {name: told[name] for name in ("findings", "sides", "labelled")}


def _side(tally: Tally) -> dict[str, Any]:
    p50, p99 = tally.quantile_s(0.5), tally.quantile_s(0.99)
    return {
        "requests": tally.requests,
        "images": tally.images,
        "errors": dict(tally.errors),
        "not_finite": tally.errors["output_not_finite"],
        "decisions": dict(tally.decisions),
        "p50_ms": None if p50 is None else round(1000 * p50, 3),
        "p99_ms": None if p99 is None else round(1000 * p99, 3),
        "labels": dict(tally.labels),
    }


def _compared(compared: Compared) -> dict[str, Any]:
    """Labels by how often either version gave them; those beyond the first are counted as one."""
    given: Counter[str] = Counter()
    for pair, count in compared.pairs.items():
        for label in set(pair):
            given[label] += count
    labels = sorted(label for label, _ in given.most_common(MOST_LABELS))
    if len(given) > MOST_LABELS and OTHER not in labels:
        labels.append(OTHER)
    place = {label: index for index, label in enumerate(labels)}
    matrix = [[0] * len(labels) for _ in labels]
    for (stable, shadow), count in compared.pairs.items():
        matrix[place.get(stable, len(labels) - 1)][place.get(shadow, len(labels) - 1)] += count
    images = compared.images
    return {
        "images": images,
        "agreement": compared.agreed / images if images else None,
        "confusion": {"labels": labels, "counts": matrix},
        "mean_change_of_scores": compared.change / images if images else None,
        "shed": compared.shed,
        "failed": compared.failed.total(),
    }


def _labelled(labelled: Labelled) -> dict[str, Any]:
    return {
        "images": labelled.images,
        "stable": asdict(labelled.stable),
        "candidate": asdict(labelled.candidate),
        "only_stable_right": labelled.only_stable_right,
        "only_candidate_right": labelled.only_candidate_right,
        "mcnemar_p": labelled.mcnemar_p,
        "sequential_p_accuracy": p_value(labelled.of_accuracy),
        "sequential_p_brier": p_value(labelled.of_brier),
    }


class Showing:
    """`Showing(rows, evidence).of(rollout)` reads the database; safe from any thread.

    What labels say is computed again only when there is another one.
    """

    def __init__(self, rows: Rows, evidence: Evidence) -> None:
        self._rows = rows
        self._evidence = evidence
        self._known: dict[str, tuple[object, Labelled | None]] = {}  # by rollout, replaced as a whole

    def of(self, rollout: Rollout) -> Shown:
        """What a rollout has shown on all servers, up to a second ago on others. Raises ServiceError."""
        counts = Counts.total([self._rows.counts(rollout.id), self._evidence.pending(rollout.id)])
        labelled = self._of_labels(rollout.id)
        return Shown(rollout, counts, labelled, findings(rollout, counts, labelled))

    def forget(self, all_but: Collection[str]) -> None:
        self._known = {rollout: known for rollout, known in self._known.items() if rollout in all_but}

    def _of_labels(self, rollout: str) -> Labelled | None:
        stamp = self._rows.stamp_of_pairs(rollout)
        known = self._known.get(rollout)
        if known is None or known[0] != stamp:
            known = stamp, compared(self._rows.pairs(rollout))
            self._known = {**self._known, rollout: known}
        return known[1]
