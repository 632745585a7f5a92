"""What the calls of labelling send, and what is refused before anything is sent."""

from __future__ import annotations

import json

import pytest

from lensmount_client import InvalidInput, UnexpectedResponse
from lensmount_client._api import labelling
from lensmount_client._api.labelling import Wanted
from lensmount_client._http.response import Response

DIGEST = f"sha256:{'0' * 64}"


def test_feedback_sends_the_image_and_the_answer_that_it_corrects() -> None:
    call = labelling.feedback(b"image", "malaria@2", "Uninfected", "reader1", "r-1")

    assert (call.method, call.path, call.content) == ("POST", "/feedback", b"image")
    assert call.params == {"adapter": "malaria@2", "label": "Uninfected", "who": "reader1", "request_id": "r-1"}
    assert "request_id" not in labelling.feedback(b"image", "malaria", "Uninfected", "reader1", None).params


def test_labels_are_one_json_document() -> None:
    call = labelling.add_labels("cells", {DIGEST: "Parasitized"}, "reader1")

    assert json.loads(call.content or b"") == {"who": "reader1", "labels": {DIGEST: "Parasitized"}}
    assert call.content_type == "application/json"


@pytest.mark.parametrize("count", [0, 1001])
def test_no_labels_and_too_many_are_not_sent(count: int) -> None:
    with pytest.raises(InvalidInput, match=f"found {count}, expected 1 to 1000"):
        labelling.add_labels("cells", {str(number): "a" for number in range(count)}, "reader1")


def test_a_strategy_that_is_none_is_not_sent() -> None:
    with pytest.raises(InvalidInput, match="expected one of staged, typical"):
        next(labelling.next_images("cells", Wanted("malaria", "reader1", strategy="best")))


@pytest.mark.parametrize("name", ["a/b", "", "../x"])
def test_a_name_that_is_none_is_not_sent(name: str) -> None:
    with pytest.raises(InvalidInput):
        labelling.publish(name, None)


@pytest.mark.parametrize("digest", ["../../x", "sha256:" + "0" * 63, f"{DIGEST}?side=9", f"{DIGEST}\n", ""])
def test_a_digest_that_is_none_is_not_sent_and_not_taken_from_a_server(digest: str) -> None:
    with pytest.raises(InvalidInput, match="expected sha256:"):
        labelling.unlabelled_png("cells", digest, 128)

    answer = {
        **{"name": "cells", "adapter": {"name": "a", "version": 1, "digest": DIGEST}, "strategy": "margin"},
        **{"state": "done", "done": 1, "total": 1, "unfamiliar": 0, "lease_s": 1.0},
        "items": [{"digest": digest, "predictions": []}],
    }
    call = next(labelling.next_images("cells", Wanted("malaria", "reader1")))
    with pytest.raises(UnexpectedResponse, match=r"items\[0\].digest"):
        call.read(Response(200, {"content-type": "application/json"}, json.dumps(answer).encode()))
