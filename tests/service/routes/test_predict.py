from __future__ import annotations

import threading
from typing import TYPE_CHECKING, cast

import pytest
from fastapi.testclient import TestClient

from lensmount_adapters import Backbone, ExactSwapper, Preprocessing, admit, decode_image, preprocess

if TYPE_CHECKING:
    from tests.service.conftest import CompareAnswers, MakeAdapter, MakeParts, MakePng, Until


def scores_alone(backbone: Backbone, data: bytes, image: bytes) -> dict[str, float]:
    adapter = admit(data, backbone)
    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    x = preprocess(decode_image(image), cast(Preprocessing, adapter.manifest.preprocessing))
    scores = adapter.scores(backbone.features(x[None]))[0]
    swapper.unmount()
    return dict(zip(adapter.manifest.labels, scores.tolist(), strict=True))


def test_a_raw_body_gets_the_adapters_labels_best_first(
    client: TestClient, make_adapter: MakeAdapter, make_png: MakePng, fresh_backbone: Backbone
) -> None:
    answer = client.post("/predict?adapter=cells", content=make_png(), headers={"Content-Type": "image/png"})

    assert answer.status_code == 200
    body = answer.json()
    assert [p["label"] for p in body["predictions"]] == sorted(
        ("a", "b"), key=lambda label: -next(p["score"] for p in body["predictions"] if p["label"] == label)
    )
    expected = scores_alone(fresh_backbone, make_adapter(1, ("a", "b")), make_png())
    assert {p["label"]: p["score"] for p in body["predictions"]} == pytest.approx(expected, abs=1e-6)
    assert body["adapter"]["name"] == "cells"
    assert body["adapter"]["version"] == 1
    assert body["backbone"] == {"name": "test_resnet", "fingerprint": fresh_backbone.fingerprint}
    assert body["timing_ms"].keys() == {"queue", "decode", "swap", "forward", "total"}
    assert body["request_id"] == answer.headers["X-Request-Id"]


def test_a_multipart_file_gets_the_same_answer_as_a_raw_body(
    client: TestClient, make_png: MakePng, same_scores: CompareAnswers
) -> None:
    raw = client.post("/predict?adapter=cells", content=make_png()).json()
    form = client.post("/predict?adapter=cells", files={"file": ("cell.png", make_png(), "image/png")}).json()

    assert same_scores(form, raw)


def test_several_files_and_adapters_give_results_by_image_and_then_by_adapter(
    client: TestClient, make_png: MakePng
) -> None:
    files = [("file", ("one.png", make_png(1))), ("file", ("two.png", make_png(2)))]

    results = client.post("/predict?adapter=cells,tiles", files=files).json()["results"]

    assert [(r["image"]["index"], r["image"]["name"], r["adapter"]["name"]) for r in results] == [
        (0, "one.png", "cells"),
        (0, "one.png", "tiles"),
        (1, "two.png", "cells"),
        (1, "two.png", "tiles"),
    ]
    alone = client.post("/predict?adapter=tiles", content=make_png(2)).json()
    assert {p["label"]: p["score"] for p in results[3]["predictions"]} == pytest.approx(
        {p["label"]: p["score"] for p in alone["predictions"]}, abs=1e-5
    )


def test_top_k_keeps_the_best_labels(client: TestClient, make_png: MakePng) -> None:
    every = client.post("/predict?adapter=tiles", content=make_png()).json()["predictions"]
    best = client.post("/predict?adapter=tiles&top_k=1", content=make_png()).json()["predictions"]

    assert [prediction["label"] for prediction in best] == [every[0]["label"]]
    assert best[0]["score"] == pytest.approx(every[0]["score"], abs=1e-6)


def test_a_version_a_digest_and_an_alias_name_the_same_bytes_after_a_newer_upload(
    client: TestClient,
    make_adapter: MakeAdapter,
    make_png: MakePng,
    same_scores: CompareAnswers,
    other_scores: CompareAnswers,
) -> None:
    first = client.post("/predict?adapter=cells", content=make_png()).json()
    digest = first["adapter"]["digest"]
    client.put("/adapters/cells/aliases/prod", json={"version": 1})
    client.put("/adapters/cells", content=make_adapter(7, ("a", "b")))

    newest = client.post("/predict?adapter=cells", content=make_png()).json()
    assert newest["adapter"]["version"] == 2
    assert other_scores(newest, first)
    for reference in ("cells@1", f"cells@{digest}", "cells:prod"):
        again = client.post("/predict", params={"adapter": reference}, content=make_png()).json()
        assert same_scores(again, first)
        assert again["adapter"]["digest"] == digest


def test_an_adapters_own_preprocessing_is_used(
    client: TestClient, make_adapter: MakeAdapter, make_png: MakePng, other_scores: CompareAnswers
) -> None:
    from lensmount_adapters import Preprocessing

    rule = Preprocessing(size=(96, 96), resize="pad", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    client.put("/adapters/wide", content=make_adapter(1, ("a", "b"), rule=rule))

    wide = client.post("/predict?adapter=wide", content=make_png()).json()
    cells = client.post("/predict?adapter=cells", content=make_png()).json()
    assert other_scores(wide, cells)
    both = client.post("/predict?adapter=wide,cells", content=make_png()).json()["results"]
    assert [r["predictions"] for r in both] == [wide["predictions"], cells["predictions"]]


def test_a_full_queue_answers_429_with_retry_after(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, until: Until
) -> None:
    """A batch that waits to fill up keeps the queue full."""
    with (
        make_parts(max_queue=2, batch_window_ms=1000) as parts,
        TestClient(parts.app, base_url="http://127.0.0.1") as client,
    ):
        parts.catalog.upload("cells", make_adapter(1, ("a", "b")))
        files = [("file", (f"{i}.png", make_png(i))) for i in range(2)]
        answers = []
        first = threading.Thread(target=lambda: answers.append(client.post("/predict?adapter=cells", files=files)))
        first.start()
        until(lambda: parts.engine.waiting == 2)
        full = client.post("/predict?adapter=cells", files=files[:1])
        first.join()

    assert (full.status_code, full.json()["code"]) == (429, "queue_full")
    assert int(full.headers["Retry-After"]) == full.json()["retry_after_s"] >= 1
    assert [answer.status_code for answer in answers] == [200]


def test_the_pixels_of_a_request_are_limited_together_before_any_is_decoded(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    with make_parts(max_request_pixels=25_000) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        parts.catalog.upload("cells", make_adapter(1))
        cut = make_png(0, (100, 100))[:60]  # its header is complete, and it cannot be decoded
        refused = client.post("/predict?adapter=cells", files=[("file", ("a.png", cut))] * 3)
        fitting = client.post("/predict?adapter=cells", files=[("file", ("a.png", make_png(0, (100, 100))))] * 2)
        alone = client.post("/predict?adapter=cells", content=make_png(0, (200, 200)))

    assert (refused.status_code, refused.json()["code"]) == (413, "batch_too_large")
    assert (
        "found 3 images of 30000 pixels together, expected at most 25000. Fix: send fewer" in refused.json()["detail"]
    )
    assert fitting.status_code == 200
    assert alone.status_code == 413


def test_of_several_bad_images_the_first_is_named(client: TestClient, make_png: MakePng) -> None:
    files = [("file", make_png()), ("file", b"no image"), ("file", b"")]

    refused = client.post("/predict?adapter=cells", files=files)

    assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_image_format")


def test_a_repeated_request_reads_neither_database_nor_disk_until_something_is_published(
    make_parts: MakeParts,
    make_adapter: MakeAdapter,
    make_png: MakePng,
    same_scores: CompareAnswers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/adapters/cells", content=make_adapter(1, ("a", "b")))
        first = client.post("/predict?adapter=cells", content=make_png()).json()
        resolve, asked = parts.catalog.resolve, []
        monkeypatch.setattr(parts.catalog, "resolve", lambda *r, **own: (asked.append(1), resolve(*r, **own))[1])

        again = [client.post("/predict?adapter=cells", content=make_png()).json() for _ in range(3)]
        assert asked == []
        assert all(same_scores(answer, first) for answer in again)
        client.put("/adapters/cells", content=make_adapter(2, ("a", "b")))
        assert client.post("/predict?adapter=cells", content=make_png()).json()["adapter"]["version"] == 2
        assert asked == [1]
        client.delete("/adapters/cells")
        assert client.post("/predict?adapter=cells", content=make_png()).json()["code"] == "adapter_not_found"


def test_a_new_version_answers_with_its_own_labels(
    client: TestClient, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    for labels in (("a", "b"), ("b", "a"), ("x", "y")):
        client.put("/adapters/cells", content=make_adapter(1, labels)).raise_for_status()
        ranked = client.post("/predict?adapter=cells", content=make_png()).json()["predictions"]
        scores = {prediction["label"]: prediction["score"] for prediction in ranked}
        assert scores.keys() == set(labels)
        if labels == ("a", "b"):
            first = [scores[label] for label in labels]
        assert [scores[label] for label in labels] == pytest.approx(first, abs=1e-6)
