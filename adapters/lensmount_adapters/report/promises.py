"""What an adapter promises, and how its promises were kept, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.adapter.trust import Calibration, Conformal, Operating, Selective

MAX_LABELS = 10  # that are named as having no guarantee
_SOURCES = {
    "part": "images of a part of their own",
    "cross-fitted": "training images, each scored by a network that was trained without it",
}


def promises(manifest: Manifest) -> list[str]:
    """One sentence for each promise of the file, or one on why there is none. Empty if nothing is known of it."""
    trust = manifest.trust
    if trust is None:
        record = manifest.training.get("calibration")
        why = record.get("why") if isinstance(record, Mapping) else None
        return [f"No promise: {why[:300]}."] if isinstance(why, str) else []
    lines = []
    if trust.calibration is not None:
        lines.append(_calibration(trust.calibration))
    if trust.conformal is not None:
        lines += _conformal(trust.conformal, manifest.labels)
    if trust.selective is not None:
        lines.append(_selective(trust.selective))
    if trust.operating is not None:
        lines.append(_operating(trust.operating))
    return lines


def summary(manifest: Manifest) -> str:
    """The promises in one line, for a terminal; "" if nothing is known."""
    trust = manifest.trust
    if trust is None or trust.calibration is None:
        return next(iter(promises(manifest)), "")
    words = [f"calibration error {_with_interval(trust.calibration, 'ece')} on {trust.calibration.images} images"]
    if trust.conformal is not None:
        guaranteed = sum(threshold is not None for threshold in trust.conformal.thresholds)
        total = len(trust.conformal.thresholds)
        words.append(f"sets of labels for {percent(trust.conformal.coverage)} in {guaranteed} of {total} classes")
    if trust.selective is not None:
        accepted = "no answer" if trust.selective.threshold is None else f"{percent(trust.selective.share)} of answers"
        words.append(f"{accepted} accepted at {percent(trust.selective.accuracy)}")
    return ", ".join(words)


def kept(assessed: Mapping[str, Any]) -> list[str]:
    """Sentences on `assess(...)`: the figures of one part, and how each promise was kept there."""
    lines = [
        f"Expected calibration error {_with_interval(assessed, 'ece')}, in bins of equal size "
        f"{_with_interval(assessed, 'adaptive_ece')}; Brier score {_with_interval(assessed, 'brier')}; "
        f"log loss {_with_interval(assessed, 'log_loss')}."
    ]
    return lines + thresholds(assessed)


def thresholds(assessed: Mapping[str, Any]) -> list[str]:
    """Sentences on sets, accepted answers and the operating point of `assess(...)` or `assess_wanted(...)`."""
    lines = []
    if sets := assessed["sets"]:
        known = {label: share for label, share in sets["classes"].items() if share is not None}
        worst = min(known, key=lambda label: known[label])
        lines.append(
            f"Sets of labels for {percent(sets['promised'])} held the right one in {percent(sets['coverage'])} of the "
            f"images ({worst}: {percent(known[worst])}), with {sets['mean_size']:.2f} labels on average."
        )
    if accepted := assessed["accepted"]:
        right = "" if accepted["accuracy"] is None else f", of which {percent(accepted['accuracy'])} were right"
        lines.append(
            f"Accepted at {percent(accepted['promised'])}: {percent(accepted['share'])} of the answers{right}."
        )
    if point := assessed["point"]:
        found, left = (
            "none to count" if point[kind] is None else percent(point[kind]) for kind in ("sensitivity", "specificity")
        )
        lines.append(f"{point['positive']} as positive: sensitivity {found}, specificity {left}.")
    return lines


def percent(share: float) -> str:
    """0.95 as "95 %", 0.985 as "98.5 %"."""
    return f"{100 * share:.3g} %"


def _with_interval(figures: Any, name: str) -> str:
    value, interval = (
        figures[key] if isinstance(figures, Mapping) else getattr(figures, key) for key in (name, f"{name}_interval")
    )
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _calibration(found: Calibration) -> str:
    return (
        f"Measured on {found.images} {_SOURCES[found.source]}: expected calibration error "
        f"{_with_interval(found, 'ece')}, in bins of equal size {_with_interval(found, 'adaptive_ece')}, Brier score "
        f"{_with_interval(found, 'brier')}, log loss {_with_interval(found, 'log_loss')}, with 95 % intervals."
    )


def _conformal(found: Conformal, labels: tuple[str, ...]) -> list[str]:
    without = [
        f"{label} ({count} images)"
        for label, count, threshold in zip(labels, found.images, found.thresholds, strict=True)
        if threshold is None
    ]
    if len(without) == len(labels):
        return [f"No guarantee for the sets of labels: too few images for {percent(found.coverage)}."]
    lines = [f"The set of labels holds the right one for {percent(found.coverage)} of the images of each class."]
    if without:
        more = f" and {len(without) - MAX_LABELS} more" if len(without) > MAX_LABELS else ""
        lines.append(f"No guarantee, because of too few images, for {', '.join(without[:MAX_LABELS])}{more}.")
    return lines


def _selective(found: Selective) -> str:
    if found.threshold is None:
        return f"No answer can be promised to be right with {percent(found.accuracy)} by {found.images} images."
    return (
        f"An answer is accepted from a top score of {found.threshold:.3f} on: {percent(found.share)} of the images, "
        f"with at least {percent(found.accuracy)} of them right."
    )


def _operating(found: Operating) -> str:
    wanted = f"{found.kind} of {percent(found.value)} for {found.positive}"
    if found.threshold is None:
        return f"No threshold can be promised for a {wanted}: {found.images} images are too few."
    return f"A {wanted} needs a score of at least {found.threshold:.3f} to call it positive ({found.images} images)."
