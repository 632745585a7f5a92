"""Which of the forms that an answer can take the client wants: its `Accept` header (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

from lensmount_service.errors import NotAcceptable

JSON, PNG, GEOJSON = "application/json", "image/png", "application/geo+json"
MAX_RANGES = 64


def negotiate(accept: str | None, offered: Sequence[str], answers: str) -> str:
    """The offered media type that the header weighs highest, the first of equals; the first without a header.

    `answers` says in the message what there is to answer. Raises NotAcceptable where all are refused.
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
    """ "image/png;q=0.5" -> ("image/png", 0.5); a weight that is no number counts as 0."""
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
    """That of the most specific range which covers the media type."""
    for wanted in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        found = [weight for text, weight in ranges if text == wanted]
        if found:
            return max(found)
    return 0.0
