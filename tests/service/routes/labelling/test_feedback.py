"""A correction is kept with who, when and which adapter, only where the operator allows it, and can be trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeAdapter, MakeParts, MakePng


@pytest.fixture
def api(make_parts: MakeParts, make_adapter: MakeAdapter) -> Iterator[TestClient]:
    """A server that keeps feedback, with the adapter `cells` (a, b)."""
    with make_parts(feedback="on") as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/adapters/cells", content=make_adapter(1, ("a", "b")))
        yield client


def test_by_default_nothing_is_kept(client: TestClient, make_png: MakePng) -> None:
    answer = client.post("/feedback?adapter=cells&label=a&who=reader1", content=make_png())

    assert (answer.status_code, answer.json()["code"]) == (403, "feedback_off")
    assert "LENSMOUNT_FEEDBACK=on" in answer.json()["detail"]
    assert client.get("/datasets/cells-feedback/labels").json()["labels"] == []


def test_a_correction_is_kept_with_who_and_the_answer_that_it_corrects(api: TestClient, make_png: MakePng) -> None:
    predicted = api.post("/predict?adapter=cells", content=make_png()).json()
    query = f"adapter=cells@1&label=b&who=reader1&request_id={predicted['request_id']}"

    kept = api.post(f"/feedback?{query}", content=make_png())

    assert kept.status_code == 201
    assert kept.json()["dataset"] == "cells-feedback"
    (label,) = api.get("/datasets/cells-feedback/labels").json()["labels"]
    assert (label["label"], label["who"], label["digest"]) == ("b", "reader1", kept.json()["digest"])
    assert label["request_id"] == predicted["request_id"]
    assert label["adapter"] == f"cells@1 {predicted['adapter']['digest']}"


def test_soon_after_an_answer_its_request_id_alone_is_enough(api: TestClient, make_png: MakePng) -> None:
    predicted = api.post("/predict?adapter=cells", content=make_png(3)).json()
    url = f"/feedback?label=b&who=reader1&request_id={predicted['request_id']}"

    kept = api.post(f"{url}&adapter=cells").json()

    assert (
        kept["digest"] == api.post("/feedback?adapter=cells&label=a&who=reader2", content=make_png(3)).json()["digest"]
    )
    first, _ = api.get("/datasets/cells-feedback/labels").json()["labels"]
    assert (first["label"], first["request_id"]) == ("b", predicted["request_id"])


def test_only_the_adapter_that_answered_is_corrected_by_a_request_id(
    api: TestClient, make_png: MakePng, make_adapter: MakeAdapter
) -> None:
    predicted = api.post("/predict?adapter=cells", content=make_png()).json()
    api.put("/adapters/cells", content=make_adapter(2, ("a", "b")))  # version 2
    url = f"/feedback?label=b&who=reader1&request_id={predicted['request_id']}"

    refused = api.post(f"{url}&adapter=cells")
    assert (refused.status_code, "Fix: name the adapter that answered" in refused.json()["detail"]) == (422, True)

    assert api.post(f"{url}&adapter=cells@1").status_code == 201


@pytest.mark.parametrize("settings", [{}, {"feedback_kept_s": 0}, {"feedback_kept_bytes": 0}], ids=str)
def test_a_request_id_without_its_image_is_refused_and_works_once_the_image_is_sent(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, settings: dict[str, Any]
) -> None:
    parts = make_parts(feedback="on", **settings)
    with parts as opened, TestClient(opened.app, base_url="http://127.0.0.1") as api:
        api.put("/adapters/cells", content=make_adapter(1, ("a", "b")))
        several = [("file", ("1.png", make_png(1))), ("file", ("2.png", make_png(2)))]
        predict = {"content": make_png()} if settings else {"files": several}
        predicted = api.post("/predict?adapter=cells", **predict).json()
        url = f"/feedback?adapter=cells&label=a&who=reader1&request_id={predicted['request_id']}"

        refused = api.post(url)
        assert (refused.status_code, refused.json()["code"]) == (403, "image_not_kept")
        assert "Fix: send the image with the request_id" in refused.json()["detail"]

        assert api.post(url, content=make_png()).status_code == 201


def test_a_label_that_the_adapter_lacks_is_refused_and_the_way_that_is_named_works(
    api: TestClient, make_png: MakePng
) -> None:
    kept = api.post("/feedback?adapter=cells&label=a&who=reader1", content=make_png()).json()
    refused = api.post("/feedback?adapter=cells&label=c&who=reader1", content=make_png())
    assert "POST /datasets/{name}/labels" in refused.json()["detail"]

    body = {"who": "reader1", "labels": {kept["digest"]: "c"}}
    assert api.post("/datasets/cells-feedback/labels", json=body).status_code == 201


def test_feedback_becomes_a_version_that_a_job_can_train_on(api: TestClient, images: DrawImages) -> None:
    for path, data in images(seed=9, a=8, b=8).items():
        api.post(f"/feedback?adapter=cells&label={path[0]}&who=reader1", content=data)
    version = api.post("/datasets/cells-feedback/versions").json()
    assert version["classes"] == {"a": 8, "b": 8}

    job = api.post("/jobs", json={"dataset": "cells-feedback", "adapter": "cells", "alias": "prod"})

    assert job.status_code == 201
    assert job.json()["dataset"]["digest"] == version["digest"]


@pytest.mark.parametrize(
    ("query", "content", "status"),
    [
        ("adapter=none&label=a&who=reader1", b"x", 404),
        ("adapter=cells&label=a&who=reader1", b"no image", 415),
        ("adapter=cells&label=a&who=reader1", b"", 422),
        ("adapter=cells&label=a", b"x", 422),
        ("adapter=cells&who=reader1", b"x", 422),
        ("adapter=cells&label=a&who=reader1&request_id=x", b"x", 422),
        ("adapter=cells,cells@1&label=a&who=reader1", b"x", 422),
    ],
)
def test_a_bad_correction_is_refused_and_nothing_is_kept(
    api: TestClient, query: str, content: bytes, status: int
) -> None:
    answer = api.post(f"/feedback?{query}", content=content)

    assert answer.status_code == status, answer.json()
    assert api.get("/datasets/cells-feedback/labels").json()["labels"] == []
