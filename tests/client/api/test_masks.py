"""Masks over HTTP: what is asked for, and how the three kinds of answers are read."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from tests.client.answers import PREDICTION

from lensmount_client import AdapterMismatch, UnexpectedResponse
from lensmount_client._api.masks import mask_png, polygons, segment
from lensmount_client._http.response import Response

MASK = {"label": "cell", "counts": [3, 3], "area": 3, "count": 1, "areas": [3]}


def answer(**changes: Any) -> Response:
    fields = PREDICTION | {"segmentation": {"size": [2, 3], "masks": [MASK]}} | changes
    return Response(200, httpx.Headers({"content-type": "application/json"}), json.dumps(fields).encode())


def test_each_kind_is_asked_for_by_its_media_type() -> None:
    calls = {make: make(b"image", "malaria", 2.5) for make in (segment, mask_png, polygons)}
    accepted = {make: call.headers["Accept"] for make, call in calls.items()}
    assert accepted == {segment: "application/json", mask_png: "image/png", polygons: "application/geo+json"}
    for call in calls.values():
        assert (call.method, call.path, call.content) == ("POST", "/predict", b"image")
        assert call.params == {"adapter": "malaria", "timeout": "2.5"}


def test_the_masks_are_read_with_their_counts() -> None:
    found = segment(b"image", "malaria").read(answer())
    assert (found.size, found.masks[0].counts, found.masks[0].areas) == ((2, 3), (3, 3), (3,))
    assert (found.adapter.name, found.image) == ("malaria", b"image")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"segmentation": {"size": [2, 3], "masks": [MASK | {"counts": [3, 2]}]}},
            UnexpectedResponse,
            "do not add up to 2 x 3",
        ),
        ({"adapter": {**PREDICTION["adapter"], "name": "smoking"}}, AdapterMismatch, "smoking"),
    ],
)
def test_masks_that_cannot_be_those_of_the_request_are_refused(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        segment(b"image", "malaria").read(answer(**changes))


def test_an_adapter_without_masks_is_named() -> None:
    fields = json.dumps(PREDICTION).encode()
    with pytest.raises(UnexpectedResponse, match="malaria returns labels and has no masks"):
        segment(b"image", "malaria").read(Response(200, httpx.Headers(), fields))


def test_a_mask_image_is_a_png() -> None:
    read = mask_png(b"image", "malaria").read
    assert read(Response(200, httpx.Headers({"content-type": "image/png"}), b"\x89PNG")) == b"\x89PNG"
    with pytest.raises(UnexpectedResponse, match="found application/json, expected image/png"):
        read(answer())
