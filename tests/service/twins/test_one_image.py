"""The body of one image, in all forms and wrong in many ways, on both routes that read it."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi.testclient import TestClient
from tests.service.twins.malformed import document, malformed

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts, MakePng, Until
    from tests.service.twins.conftest import Predict

ROUTES = ("/hf/tiles", "/invocations?adapter=tiles")
JSON = {"Content-Type": "application/json"}


def as_text(image: bytes) -> str:
    return base64.b64encode(image).decode()


@pytest.mark.parametrize("route", ROUTES)
def test_each_form_of_a_body_has_the_scores_of_predict(
    route: str, api: httpx.Client, predicted: Predict, make_png: MakePng
) -> None:
    image = make_png(3)
    in_lines = base64.encodebytes(image).decode()
    sent: list[dict[str, Any]] = [
        {"content": image},
        {"content": image, "headers": {"Content-Type": "image/png"}},
        {"content": image, "headers": {"Content-Type": "application/x-www-form-urlencoded"}},  # what curl sends
        {"json": {"inputs": as_text(image)}},
        {"json": {"inputs": as_text(image), "parameters": None, "options": {"wait_for_model": True}}},
        {"json": {"inputs": as_text(image), "parameters": {"top_k": None, "function_to_apply": "softmax"}}},
        {"json": {"inputs": in_lines}},
        {"json": {"inputs": f"data:image/png;base64,{as_text(image)}"}},
        {"content": document(inputs=as_text(image)), "headers": {"Content-Type": "application/vnd.x+json"}},
        {"content": b"\n " + document(inputs=as_text(image))},
        {"json": {"inputs": as_text(image), "parameters": {"top_k": 99}}},
    ]
    for options in sent:
        answer = api.post(route, **options)
        assert (answer.status_code, answer.json()) == (200, predicted("tiles", image)), options.keys()


@pytest.mark.parametrize("route", ROUTES)
def test_top_k_keeps_the_best_labels(route: str, api: httpx.Client, predicted: Predict, make_png: MakePng) -> None:
    image = make_png(4)
    answer = api.post(route, json={"inputs": as_text(image), "parameters": {"top_k": 2}})
    assert answer.json() == predicted("tiles", image)[:2]


@pytest.mark.parametrize("route", ROUTES)
def test_200_malformed_bodies_are_refused_with_a_code_each(route: str, api: httpx.Client, make_png: MakePng) -> None:
    bodies = list(malformed(as_text(make_png())))
    assert len(bodies) >= 200
    for content, kind in bodies:
        answer = api.post(route, content=content, headers={} if kind is None else {"Content-Type": kind})
        assert 400 <= answer.status_code < 500, (content[:200], kind, answer.text)
        assert answer.json()["code"] != "not_found", content[:200]
    ready = api.get("/health/ready").json()
    assert (ready["status"], ready["quarantined"]) == ("ok", 0)


def test_the_advice_about_a_function_and_about_base64_works(
    api: httpx.Client, predicted: Predict, make_png: MakePng
) -> None:
    image = make_png()
    asked: dict[str, Any] = {"inputs": image.hex() + "?", "parameters": {"function_to_apply": "none"}}
    refused = api.post("/hf/tiles", json=asked).json()["detail"]
    assert "function_to_apply: found none, expected softmax" in refused
    assert refused.endswith("Fix: leave it out")
    del asked["parameters"]["function_to_apply"]
    refused = api.post("/hf/tiles", json=asked).json()["detail"]
    assert refused.endswith("Fix: send base64.b64encode(data).decode()")
    asked["inputs"] = base64.b64encode(image).decode()
    assert api.post("/hf/tiles", json=asked).json() == predicted("tiles", image)


@pytest.fixture(scope="module")
def small(make_shared_parts: MakeParts, api: httpx.Client) -> Iterator[TestClient]:
    """A server that takes images of at most 6,000 bytes."""
    with make_shared_parts(max_image_bytes=6000) as parts:
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            assert client.put("/adapters/tiles", content=api.get("/adapters/tiles/file").content).status_code == 201
            yield client


@pytest.mark.parametrize("route", ROUTES)
def test_the_limits_of_predict_hold(route: str, small: TestClient, make_png: MakePng) -> None:
    image = make_png(0)
    assert len(image) < 6000
    most = image + b"\0" * (6000 - len(image))
    over = most + b"\0"
    for content, code in ((most, None), (over, "body_too_large")):
        assert small.post("/predict?adapter=tiles", content=content).json().get("code") == code
        answer = small.post(route, content=content)
        assert (answer.json()["code"] if answer.is_error else None) == code
    assert small.post(route, json={"inputs": as_text(most)}).status_code == 200
    told = small.post(route, json={"inputs": as_text(over)})
    assert (told.status_code, told.json()["code"]) == (413, "image_too_large")
    told = small.post(route, json={"inputs": as_text(most * 3)})
    assert (told.status_code, told.json()["code"]) == (413, "body_too_large")


def test_requests_of_all_protocols_wait_in_one_queue_and_share_a_batch(
    make_parts: MakeParts, api: httpx.Client, make_png: MakePng, until: Until
) -> None:
    """A batch that waits to fill up keeps the queue full."""
    with make_parts(max_queue=2, batch_window_ms=1000) as parts:
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            assert client.put("/adapters/tiles", content=api.get("/adapters/tiles/file").content).status_code == 201

            def batches() -> tuple[float, float]:
                text = client.get("/metrics").text
                found = [
                    re.search(rf"^lensmount_batch_size_{what} (\S+)$", text, re.MULTILINE) for what in ("count", "sum")
                ]
                count, images = (float(each[1]) for each in found if each is not None)
                return count, images

            before = batches()
            answers: list[Any] = []
            threads = [
                threading.Thread(target=lambda route=route: answers.append(client.post(route, content=make_png())))
                for route in ROUTES
            ]
            for thread in threads:
                thread.start()
            until(lambda: parts.engine.waiting == 2)
            full = [client.post(route, content=make_png()) for route in (*ROUTES, "/predict?adapter=tiles")]
            for thread in threads:
                thread.join()
            after = batches()
    assert [(each.status_code, each.json()["code"]) for each in full] == [(429, "queue_full")] * 3
    assert full[0].json()["error"].startswith("queue_full: ")
    assert [each.status_code for each in answers] == [200, 200]
    assert (after[0] - before[0], after[1] - before[1]) == (1, 2)


@pytest.mark.parametrize("route", ROUTES)
def test_a_form_is_refused_and_the_advice_works(route: str, api: httpx.Client, make_png: MakePng) -> None:
    refused = api.post(route, files={"file": make_png()})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert refused.json()["detail"].endswith("Fix: with curl, --data-binary @FILE")
    as_curl_sends = {"Content-Type": "application/x-www-form-urlencoded"}
    assert api.post(route, content=make_png(), headers=as_curl_sends).status_code == 200
