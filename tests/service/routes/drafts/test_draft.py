"""A first draft: solved on the network's features, published at once, replaced by training and never the other way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from sklearn.linear_model import LogisticRegression
from tests.service.routes.drafts.conftest import EACH

from lensmount_adapters import Backbone, parse_adapter
from lensmount_adapters.adapter.heads import probabilities
from lensmount_adapters.draft import choice, solve
from lensmount_adapters.draft.features import rule_of
from lensmount_adapters.inputs.prepare import normalise, pixels_of

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, Zip


def test_a_draft_is_published_and_says_what_it_is_made_of(api: TestClient, drafted: Any) -> None:
    made = drafted.json()
    assert (made["name"], made["version"]) == ("first", 1)
    assert made["draft"] | {"balanced_accuracy": None, "seconds": None} == {
        "images": 3 * EACH,
        "left_out": 0,
        "most_of_a_class": 200,
        "classes": {"a": EACH, "b": EACH, "c": EACH},
        "balanced_accuracy": None,
        "judged_by": "cross-validation",
        "seconds": None,
    }
    assert 0 <= made["draft"]["balanced_accuracy"] <= 1
    assert drafted.headers["Location"] == "/adapters/first/versions/1"
    assert api.get("/adapters/first").json()["draft"] is True
    listed = {entry["name"]: entry["draft"] for entry in api.get("/adapters").json()["adapters"]}
    assert listed["first"] is True


def test_predictions_are_those_of_logistic_regression_on_the_same_features(
    api: TestClient, backbone: Backbone, cells: dict[str, bytes], drafted: Any
) -> None:
    rule = rule_of(backbone)
    pixels = torch.stack([pixels_of(data, rule) for data in cells.values()])
    x = backbone.features(normalise(pixels, rule)).double().numpy()
    truth = np.array(["abc".index(path[0]) for path in cells])
    scaled = (x - x.mean(0)) / np.where(x.std(0) > 1e-6, x.std(0), np.inf) / np.sqrt(x.shape[1])
    theirs = LogisticRegression(C=solve.STRENGTH, tol=1e-10, max_iter=10_000).fit(scaled, truth)  # classes are equal
    manifest = parse_adapter(api.get("/adapters/first/file").content).manifest
    expected = probabilities(manifest.head, torch.from_numpy(theirs.decision_function(scaled))).numpy()

    answers = api.post("/predict?adapter=first", files=[("file", data) for data in cells.values()]).json()

    for answer, scores in zip(answers["results"], expected, strict=True):
        found = {each["label"]: each["score"] for each in answer["predictions"]}
        assert [found[label] for label in "abc"] == pytest.approx(scores, abs=1e-3)


def test_images_that_the_dataset_keeps_for_tests_are_not_used(
    api: TestClient, cells: dict[str, bytes], zipped: Zip
) -> None:
    rows = [f"{path},{path[0]},{'test' if path.endswith('/0.png') else 'train'}" for path in cells]
    api.put("/datasets/parts", content=zipped(cells | {"labels.csv": "\n".join(["path,label,split", *rows]).encode()}))

    made = api.post("/datasets/parts/draft", params={"adapter": "parts"}).json()["draft"]

    assert (made["classes"], made["left_out"]) == ({"a": EACH - 1, "b": EACH - 1, "c": EACH - 1}, 3)


def test_of_a_large_dataset_a_bounded_number_of_images_is_drawn(
    api: TestClient, cells: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "MOST_OF_A_CLASS", 6)

    made = api.post("/datasets/cells/draft", params={"adapter": "bounded"}).json()["draft"]

    assert (made["classes"], made["left_out"], made["most_of_a_class"]) == ({"a": 6, "b": 6, "c": 6}, 6, 6)


def test_if_match_is_about_the_adapter(api: TestClient, drafted: Any) -> None:
    stale = {"If-Match": '"sha256:' + "0" * 64 + '"'}
    answer = api.post("/datasets/cells/draft", params={"adapter": "first"}, headers=stale)
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")

    answer = api.post("/datasets/cells/draft", params={"adapter": "first"}, headers={"If-None-Match": "*"})
    assert answer.status_code == 412


def test_a_class_with_fewer_than_five_images_is_named(api: TestClient, images: DrawImages, zipped: Zip) -> None:
    api.put("/datasets/few", content=zipped(images(seed=4, a=6, b=4)))

    answer = api.post("/datasets/few/draft", params={"adapter": "few"})

    assert (answer.status_code, answer.json()["code"]) == (422, "draft_needs_images")
    assert "found 4 of 'b', expected at least 5 different images in each class. Fix: add" in answer.json()["detail"]
    assert api.get("/adapters/few").status_code == 404


def test_a_trained_adapter_is_not_replaced_by_a_draft(api: TestClient, cells: Any, make_adapter: Any) -> None:
    api.put("/adapters/trained", content=make_adapter(1, name="trained"))

    answer = api.post("/datasets/cells/draft", params={"adapter": "trained"})

    assert (answer.status_code, answer.json()["code"]) == (409, "draft_would_replace")
    assert api.get("/adapters/trained").json()["draft"] is False
