"""POST /explain: what is asked for, and how the two kinds of answers are read."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from tests.client.answers import PREDICTION

from lensmount_client import AdapterMismatch, InvalidInput, InvalidReference, UnexpectedResponse
from lensmount_client._api.explain import Question, explain, explanation_png
from lensmount_client._http.response import Response

ANSWER: dict[str, Any] = {
    **{key: PREDICTION[key] for key in ("adapter", "backbone", "request_id", "timing_ms")},
    **{"label": "parasitized", "score": 0.97, "method": "layercam", "grid": [2, 3]},
    **{"values": [[0, 0.5, 1], [-0.25, 0, 0]], "size": [106, 142], "box": [0, 0, 142.0, 106.0]},
}


def answer(**changes: Any) -> Response:
    return Response(200, httpx.Headers({"content-type": "application/json"}), json.dumps(ANSWER | changes).encode())


def test_each_kind_is_asked_for_by_its_media_type() -> None:
    question = Question("malaria", "uninfected", "occlusion", 2.5)
    calls = {make: make(b"image", question) for make in (explain, explanation_png)}

    assert {make: call.headers["Accept"] for make, call in calls.items()} == {
        explain: "application/json",
        explanation_png: "image/png",
    }
    for call in calls.values():
        assert (call.method, call.path, call.content) == ("POST", "/explain", b"image")
        assert call.params == {"adapter": "malaria", "label": "uninfected", "method": "occlusion", "timeout": "2.5"}


def test_without_a_label_none_is_sent() -> None:
    assert explain(b"image", Question("malaria")).params == {"adapter": "malaria", "method": "cam"}


def test_the_grid_is_read() -> None:
    found = explain(b"image", Question("malaria")).read(answer())

    assert (found.label, found.score, found.method) == ("parasitized", 0.97, "layercam")
    assert (found.grid, found.values) == ((2, 3), ((0, 0.5, 1), (-0.25, 0, 0)))
    assert (found.size, found.box) == ((106, 142), (0, 0, 142, 106))
    assert (found.adapter.name, found.request_id, found.image) == ("malaria", "r-1", b"image")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"grid": [3, 2]}, UnexpectedResponse, "expected rows and columns"),
        ({"grid": [2]}, UnexpectedResponse, "expected rows and columns"),
        ({"box": [0, 0, 1]}, UnexpectedResponse, "four edges"),
        ({"box": "all"}, UnexpectedResponse, "box: found 'all', expected a list"),
        ({"values": [[0, 1, 2], [3, 4]]}, UnexpectedResponse, "not 2 x 3 numbers"),
        ({"values": [[0, 1, "two"], [3, 4, 5]]}, UnexpectedResponse, "a list of lists of numbers"),
        ({"values": [], "grid": [0, 0]}, UnexpectedResponse, "not 0 x 0 numbers"),
        ({"adapter": {**PREDICTION["adapter"], "name": "smoking"}}, AdapterMismatch, "smoking"),
    ],
)
def test_an_answer_that_cannot_be_that_of_the_question_is_refused(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        explain(b"image", Question("malaria")).read(answer(**changes))


def test_an_image_is_a_png() -> None:
    read = explanation_png(b"image", Question("malaria")).read

    assert read(Response(200, httpx.Headers({"content-type": "image/png"}), b"\x89PNG")) == b"\x89PNG"
    with pytest.raises(UnexpectedResponse, match="found application/json, expected image/png"):
        read(answer())


@pytest.mark.parametrize("make", [explain, explanation_png])
def test_a_wrong_question_is_refused_before_anything_is_sent(make: Any) -> None:
    with pytest.raises(InvalidInput, match="found 'magic', expected one of cam, layercam, occlusion"):
        make(b"image", Question("malaria", method="magic"))
    with pytest.raises((InvalidInput, InvalidReference)):
        make(b"image", Question("Not A Name"))
