"""What an answer is worth, in plain words for people; the web page says the same."""

from __future__ import annotations

from collections.abc import Sequence

from lensmount_client._types.results import Prediction

SURE, NOT_SURE, UNLIKE = "sure", "not sure", "unlike the images this was trained on"
NAMED = 3  # labels of a set that are named


def trust_text(prediction: Prediction) -> str:
    """For example "not sure: a or b"; empty for an adapter that promises nothing about its answers."""
    trust = prediction.trust
    if trust is None:
        return ""
    if trust.decision == "accept":
        return SURE
    if trust.decision == "unfamiliar":
        return UNLIKE
    return f"{NOT_SURE}: {any_of(trust.set)}" if trust.set else NOT_SURE


def any_of(labels: Sequence[str]) -> str:
    """ "a", "a or b", "a, b or c", "a, b, c or 2 others"."""
    rest = len(labels) - NAMED
    names = list(labels) if rest <= 0 else [*labels[:NAMED], f"{rest} other{'s' if rest > 1 else ''}"]
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
