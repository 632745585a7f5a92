"""What an adapter file promises, and how each promise was kept on the images that the report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.adapter.trust import Calibration, Conformal, Familiarity, Operating, Selective
from lensmount_adapters.metrics.scored import ScoredPart
from lensmount_adapters.metrics.share import Share

MAX_NAMED = 10
UNKNOWN = "not measured here"
_SOURCES = {
    "part": "images kept apart for this",
    "cross-fitted": "training images, each scored by a run that had not seen it",
}


@dataclass(frozen=True, slots=True)
class Promise:
    """One row: `about` what, what the file `promised`, and what was `measured` here, each in words."""

    about: str
    promised: str
    measured: str


def promises_kept(manifest: Manifest, scored: ScoredPart | None) -> list[Promise]:
    """One row for each promise of the file; none for a file that promises nothing.

    What was measured are the figures of `trust.assess` on the images of `scored`; without them, nothing was.
    """
    trust = manifest.trust
    if trust is None:
        return []
    found: Mapping[str, Any] = (None if scored is None else scored.assessed) or {}
    images = 0 if scored is None else scored.metrics.count
    rows = []
    if trust.calibration is not None:
        rows.append(_calibrated(trust.calibration, found))
    if trust.conformal is not None:
        rows += _sets(trust.conformal, manifest.labels, found.get("sets"), images)
    if trust.selective is not None:
        rows.append(_accepted(trust.selective, found.get("accepted"), images))
    if trust.operating is not None:
        rows.append(_operating(trust.operating, found.get("point"), scored))
    if trust.familiarity is not None:
        rows.append(_familiar(trust.familiarity))
    return rows


def why_no_promise(manifest: Manifest) -> str:
    """Why the file does not say how often its answers are right, in a sentence; empty if it does.

    A file that knows unfamiliar images promises no more than that.
    """
    trust = manifest.trust
    if trust is not None and any((trust.calibration, trust.conformal, trust.selective, trust.operating)):
        return ""
    recorded = manifest.training.get("calibration")
    why = recorded.get("why") if isinstance(recorded, dict) else None
    reason = f": {why.rstrip('.')}" if isinstance(why, str) and why else ""
    return f"This file does not promise how often its answers are right{reason[:300]}."


def _calibrated(calibration: Calibration, found: Mapping[str, Any]) -> Promise:
    measured = _interval(found["ece"], *found["ece_interval"]) if found else UNKNOWN
    promised = _interval(calibration.ece, *calibration.ece_interval)
    return Promise(
        "Scores are as often right as they say (expected calibration error)",
        f"{promised}, on {calibration.images:,} {_SOURCES[calibration.source]}",
        measured,
    )


def _sets(conformal: Conformal, labels: Sequence[str], found: Mapping[str, Any] | None, images: int) -> list[Promise]:
    measured = UNKNOWN
    if found is not None:
        covered, single = _share(found["coverage"], images), _share(found["single"], images)
        measured = f"{covered}. Sets of one label: {single}. Labels in a set: {found['mean_size']:.2f} on average"
    rows = [
        Promise(
            "The set of labels of an answer holds the right one",
            f"in {100 * conformal.coverage:g} % of the images of each class",
            measured,
        )
    ]
    open_ended = [
        f"{label} ({count:,})"
        for label, limit, count in zip(labels, conformal.thresholds, conformal.images, strict=True)
        if limit is None
    ]
    if open_ended:
        rest = f" and {len(open_ended) - MAX_NAMED} more" if len(open_ended) > MAX_NAMED else ""
        promised = "no guarantee: too few images of the class to measure with (their number in brackets)"
        rows.append(Promise(f"The same for {', '.join(open_ended[:MAX_NAMED])}{rest}", promised, "in every set"))
    return rows


def _accepted(selective: Selective, found: Mapping[str, Any] | None, images: int) -> Promise:
    about = f"Accepted answers are right in {100 * selective.accuracy:g} % of the cases"
    if selective.threshold is None:
        return Promise(about, f"cannot be promised: {selective.images:,} images are too few or too hard", "n/a")
    promised = f"from a score of {selective.threshold:.3f} on, which {selective.share:.3f} of all images reach"
    if found is None:
        return Promise(about, promised, UNKNOWN)
    accepted = _share(found["share"], images)
    right = _share(found["accuracy"], 0 if accepted is None else accepted.count)
    return Promise(about, promised, f"right: {_shown(right)}. Accepted: {_shown(accepted)}")


def _operating(operating: Operating, found: Mapping[str, Any] | None, scored: ScoredPart | None) -> Promise:
    about = f"{operating.kind.capitalize()} for {operating.positive}"
    if operating.threshold is None:
        return Promise(about, f"{operating.value:g} cannot be promised: {operating.images:,} images are too few", "n/a")
    promised = f"at least {operating.value:g}, at a threshold of {operating.threshold:.3f}"
    if found is None or scored is None:
        return Promise(about, promised, UNKNOWN)
    positive = sum(row.count for row in scored.metrics.classes if row.label == operating.positive)
    of = positive if operating.kind == "sensitivity" else scored.metrics.count - positive
    return Promise(about, promised, _shown(_share(found[operating.kind], of)))


def _familiar(familiarity: Familiarity) -> Promise:
    return Promise(
        "Images unlike those of the training are flagged",
        f"those less familiar than {familiarity.flag:g} % of {familiarity.images:,} images held out for this",
        UNKNOWN,
    )


def _share(value: float | None, of: int) -> Share | None:
    """The share with its count, which is exact: six digits tell half a million images apart."""
    return None if value is None else Share.among(round(value * of), of)


def _shown(share: Share | None) -> str:
    return "n/a" if share is None else str(share)


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} (95 % interval {low:.3f} to {high:.3f})"
