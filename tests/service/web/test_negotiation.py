"""The media type of a response is the one that the client's Accept header weighs highest."""

from __future__ import annotations

import pytest

from lensmount_service.errors import NotAcceptable
from lensmount_service.web.negotiation import GEOJSON, JSON, MAX_RANGES, PNG, accepted_encoding, negotiate

OFFERED = (JSON, PNG, GEOJSON)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, JSON),
        (" ", JSON),
        ("*/*", JSON),
        ("image/png", PNG),
        ("IMAGE/PNG ; Q=0.5", PNG),
        ("application/json;q=0.5, image/png", PNG),
        ("application/geo+json;q=0.9, application/*;q=0.2", GEOJSON),
        ("*/*;q=0.1, image/*", PNG),
        ("*/*, application/json;q=0", PNG),  # the most specific range counts, not the last one
        ("image/png, image/png;q=0", PNG),
        ("text/html, image/png;q=0.001", PNG),
    ],
)
def test_the_highest_weight_wins_and_the_first_offer_among_equals(accept: str | None, chosen: str) -> None:
    assert negotiate(accept, OFFERED, "why") == chosen


@pytest.mark.parametrize(
    "accept", ["text/html", "image/png;q=0", "image/png;q=much", "image/png;q=-1", ";", "a" * 9999]
)
def test_a_header_that_excludes_every_offer_is_refused_with_the_offers(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="expected application/json or image/png: cells gives masks") as refused:
        negotiate(accept, (JSON, PNG), "cells gives masks")
    assert len(str(refused.value)) < 250


def test_ranges_beyond_the_limit_are_not_read() -> None:
    assert negotiate("text/html," * (MAX_RANGES - 1) + PNG, OFFERED, "why") == PNG
    with pytest.raises(NotAcceptable):
        negotiate("text/html," * MAX_RANGES + PNG, OFFERED, "why")


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("GZIP;q=0.5, deflate", "deflate"),
        ("gzip;q=0", None),
        ("gzip;q=x", None),
        (",;=" * 99, None),
    ],
)
def test_the_encoding_with_the_highest_weight_is_chosen(accept: str | None, encoding: str | None) -> None:
    assert accepted_encoding(accept, ("gzip", "deflate")) == encoding
