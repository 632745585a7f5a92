"""What an adapter promises about its answers, from its manifest, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

NOTHING = "promises nothing about its answers"
PARTS = {  # of an adapter's trust, in a word each
    "calibration": "calibrated",
    "sets": "sets",
    "selective": "accepts",
    "operating": "operating point",
    "familiarity": "unfamiliar",
}


def promise_words(trust: Mapping[str, Any] | None) -> str:
    """The measured parts of `AdapterInfo.trust`: "calibrated, sets"."""
    return ", ".join(word for part, word in PARTS.items() if trust and trust.get(part))


def promise_rows(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A word and a sentence for each promise. A manifest that no Lensmount wrote has one row that says so."""
    trust = manifest.get("trust")
    if trust is None:
        return [("trust", NOTHING)]
    try:
        return list(_rows(trust, [str(label) for label in manifest["labels"]]))
    except (AttributeError, KeyError, TypeError, ValueError):
        return [("trust", "cannot be read")]


def _rows(trust: Mapping[str, Any], labels: list[str]) -> Iterator[tuple[str, str]]:
    if (part := trust.get("calibration")) is not None:
        low, high = part["ece_interval"]
        yield "calibration error", f"{part['ece']:.3f} ({low:.3f} to {high:.3f}) on {part['images']} images kept aside"
    if (part := trust.get("conformal")) is not None:
        few = [label for label, threshold in zip(labels, part["thresholds"], strict=True) if threshold is None]
        without = f"; too few images to promise it for {', '.join(few)}" if few else ""
        yield "sets of labels", f"hold the right one in {_percent(part['coverage'])} of the images{without}"
    if (part := trust.get("selective")) is not None:
        promise = f"{_percent(part['accuracy'])} right"
        if part["threshold"] is None:
            yield "accepts", f"{promise} cannot be promised with {part['images']} images kept aside"
        else:
            share = f"{_percent(part['share'])} of the images"
            yield "accepts", f"scores from {part['threshold']:.3f} on: {promise}, {share}"
    if (part := trust.get("operating")) is not None:
        promise = f"{part['kind']} of at least {_percent(part['value'])}"
        if part["threshold"] is None:
            yield "operating point", f"{promise} cannot be promised with {part['images']} images kept aside"
        else:
            yield "operating point", f"{part['positive']} from the score {part['threshold']:.3f} on: {promise}"
    if (part := trust.get("familiarity")) is not None:
        yield "unfamiliar", f"from the percentile {part['flag']:g} of {part['images']} images kept aside on"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
