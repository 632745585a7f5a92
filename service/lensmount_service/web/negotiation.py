"""Chooses the media type of a response from the client's `Accept` header (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lensmount_service.errors import NotAcceptable

JSON, PNG, GEOJSON = "application/json", "image/png", "application/geo+json"
MAX_RANGES = 64


def negotiate(accept: str | None, offered: Sequence[str], answers: str) -> str:
    """The offered media type with the highest weight in the header; the first if several are equal or without a header.

    `answers` is the part of the error message that explains the offer. Raises NotAcceptable if all are refused.
    """
    if accept is None or not accept.strip():
        return offered[0]
    ranges = [_parse(text) for text in accept.split(",")[:MAX_RANGES]]
    weighed = [(_weight(kind, ranges), kind) for kind in offered]
    best = max(weight for weight, _ in weighed)
    if best <= 0:
        raise NotAcceptable(
            f"found Accept {accept[:80]!r}, expected {' or '.join(offered)}: {answers}. Fix: ask for one of these"
        )
    return next(kind for weight, kind in weighed if weight == best)


def _parse(text: str) -> tuple[str, float]:
    """ "image/png;q=0.5" -> ("image/png", 0.5); a weight that is not a number counts as 0."""
    kind, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return kind, _number(value.strip())
    return kind, 1.0


def _number(text: str) -> float:
    digits = text.replace(".", "", 1)
    return min(1.0, float(text)) if digits.isascii() and digits.isdigit() and len(text) <= 5 else 0.0


def _weight(kind: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The weight of the most specific range that covers the media type."""
    for covering in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        weights = [weight for text, weight in ranges if text == covering]
        if weights:
            return max(weights)
    return 0.0


def accepted_encoding(accept: str | None, offered: Collection[str]) -> str | None:
    """The encoding with the highest weight above 0 in a header `Accept-Encoding`, or None for an answer as it is."""
    ranges = [_parse(text) for text in (accept or "").split(",")[:MAX_RANGES]]
    weights = {kind: max((weight for text, weight in ranges if text == kind), default=0.0) for kind in offered}
    best = max(weights, key=lambda kind: weights[kind])
    return best if weights[best] > 0 else None
