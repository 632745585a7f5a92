"""What an adapter promises, and how its promises were kept, in lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.report.kept import why_no_promise


def summary(manifest: Manifest) -> str:
    """The promises in one line, or why there are none."""
    trust, words = manifest.trust, []
    if trust is None:
        return why_no_promise(manifest)
    if trust.calibration is not None:
        error = _with_interval(trust.calibration.model_dump(), "ece")
        words.append(f"calibration error {error} on {trust.calibration.images} images")
    if trust.conformal is not None:
        guaranteed = sum(threshold is not None for threshold in trust.conformal.thresholds)
        total = len(trust.conformal.thresholds)
        words.append(f"sets of labels for {percent(trust.conformal.coverage)} in {guaranteed} of {total} classes")
    if trust.selective is not None:
        accepted = "no answer" if trust.selective.threshold is None else f"{percent(trust.selective.share)} of answers"
        words.append(f"{accepted} accepted at {percent(trust.selective.accuracy)}")
    return ", ".join(words) or why_no_promise(manifest)


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


def _with_interval(figures: Mapping[str, Any], name: str) -> str:
    low, high = figures[f"{name}_interval"]
    return f"{figures[name]:.3f} ({low:.3f} to {high:.3f})"
