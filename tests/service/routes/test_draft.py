"""A first draft: solved on the network's features, published at once, replaced by training and never the other way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from sklearn.linear_model import LogisticRegression

from lensmount_adapters import Backbone, parse_adapter
from lensmount_adapters.adapter.heads import probabilities
from lensmount_adapters.draft import choice, solve
from lensmount_adapters.draft.choice import Known
from lensmount_adapters.draft.features import rule_of
from lensmount_adapters.inputs.prepare import normalise, pixels_of
from lensmount_service.access.identity import Identity
from lensmount_service.routes.context import AppContext
from lensmount_service.routes.drafts import features
from lensmount_service.routes.drafts.features import DatasetFeatures

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeParts, Zip

EACH = 8


@pytest.fixture(scope="module")
def api(make_shared_parts: MakeParts) -> Iterator[TestClient]:
    with make_shared_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture(scope="module")
def cells(api: TestClient, images: DrawImages, zipped: Zip) -> dict[str, bytes]:
    """The images of the dataset "cells", three classes, by path."""
    files = images(seed=3, a=EACH, b=EACH, c=EACH)
    assert api.put("/datasets/cells", content=zipped(files)).status_code == 201
    return files


@pytest.fixture(scope="module")
def drafted(api: TestClient, cells: dict[str, bytes]) -> Any:
    answer = api.post("/datasets/cells/draft", params={"adapter": "first"})
    assert answer.status_code == 201, answer.text
    return answer


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


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The images that are decoded from now on."""
    seen: list[bytes] = []

    def prepare(data: bytes, *rest: Any) -> Any:
        seen.append(data)
        return real(data, *rest)

    real = features.prepare
    monkeypatch.setattr(features, "prepare", prepare)
    return seen


def test_the_same_images_again_make_no_version_and_are_not_computed(
    api: TestClient, drafted: Any, prepared: list[bytes]
) -> None:
    again = api.post("/datasets/cells/draft", params={"adapter": "first"})

    assert again.status_code == 200
    assert (again.json()["digest"], prepared) == (drafted.json()["digest"], [])


def test_of_a_dataset_that_grew_only_the_new_images_are_computed(
    api: TestClient, cells: dict[str, bytes], drafted: Any, prepared: list[bytes], images: DrawImages, zipped: Zip
) -> None:
    new = {f"a/more-{path[2:]}": data for path, data in images(seed=44, a=2).items()}
    api.put("/datasets/more", content=zipped(cells | new))

    answer = api.post("/datasets/more/draft", params={"adapter": "first"})

    assert (answer.status_code, answer.json()["version"]) == (201, 2)
    assert answer.json()["draft"]["classes"] == {"a": EACH + 2, "b": EACH, "c": EACH}
    assert sorted(prepared) == sorted(new.values())


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


def test_a_draft_that_is_cancelled_stops_and_leaves_its_place(api: TestClient, cells: dict[str, bytes]) -> None:
    app: AppContext = api.app.state.context  # type: ignore[attr-defined]  # it is a FastAPI
    made = DatasetFeatures(app)
    known = [Known(path, 0, path, f"new {path}") for path in cells]
    read: list[str] = []

    async def cancel() -> bool:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def read_one(path: str) -> bytes:
            read.append(path)
            loop.call_soon_threadsafe(begun.set)
            return cells[path]

        context = app.seen_by(Identity("default", "reader1", frozenset({"train"})))
        task = asyncio.create_task(made.of(context, known, read_one))
        await begun.wait()
        task.cancel()
        await asyncio.wait({task})
        return task.cancelled()

    assert api.portal is not None
    assert api.portal.call(cancel)
    assert len(read) < len(cells)
    assert made.busy == 0


def test_more_drafts_at_a_time_than_the_server_computes_are_refused(
    api: TestClient, cells: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "MOST_DRAFTS", 0)

    answer = api.post("/datasets/cells/draft", params={"adapter": "busy"})

    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")


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
