"""Both clients against a real socket, and against responses that no correct server sends."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.client.answers import DIGEST, PREDICTION, answering, good, mocked

from lensmount_client import AdapterMismatch, Client, InvalidInput, Score, Timeout, UnexpectedResponse


def test_a_prediction_has_label_score_and_what_a_repetition_needs() -> None:
    handle, seen = answering(good())
    with mocked(handle) as client:
        prediction = client.predict(b"pixels", adapter="malaria", top_k=2)
    assert prediction.top == Score("parasitized", 0.97)
    assert prediction.predictions[1].label == "uninfected"
    assert prediction.adapter.digest == DIGEST
    assert prediction.backbone.fingerprint.startswith("sha256:")
    assert (prediction.request_id, prediction.timing_ms) == ("r-1", {"queue": 0.0, "total": 4.5})
    (request,) = seen
    assert (request.method, request.url.path, dict(request.url.params)) == (
        "POST",
        "/predict",
        {"adapter": "malaria", "top_k": "2"},
    )
    assert request.content == b"pixels"
    assert request.headers["content-type"] == "application/octet-stream"
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    ("timeout", "sent"),
    [(Timeout(), None), (Timeout(connect_s=1), None), (7.5, "7.5"), (Timeout(read_s=300), "300"), (3600, "600")],
)
def test_a_timeout_that_the_user_sets_is_sent_up_to_the_limit_of_servers(timeout: Any, sent: str | None) -> None:
    handle, seen = answering(good(), good())
    with mocked(handle, timeout=timeout) as client:
        client.predict(b"pixels", adapter="malaria")
        list(client.predict_many([b"pixels"], adapter="malaria"))
    assert [request.url.params.get("timeout") for request in seen] == [sent, sent]


def test_headers_go_with_every_image_of_several() -> None:
    handle, seen = answering(good(), good())
    with mocked(handle) as client:
        list(client.predict_many([b"one", b"two"], adapter="malaria", headers={"X-Patient": "7"}))
        with pytest.raises(InvalidInput, match="found the name 'Host'"):
            client.predict_many([b"one"], adapter="malaria", headers={"Host": "7"})
    assert [request.headers["x-patient"] for request in seen] == ["7", "7"]


def test_the_token_is_sent_as_a_bearer_token_and_the_path_of_the_base_url_is_kept() -> None:
    handle, seen = answering(httpx.Response(200, json={"adapters": []}))
    with mocked(handle, base_url="https://host/lens/", token="t0ken") as client:
        assert client.adapters.list() == []
    assert str(seen[0].url) == "https://host/lens/adapters"
    assert seen[0].headers["authorization"] == "Bearer t0ken"


def test_several_adapters_give_a_list_in_their_order(server: Any) -> None:
    with Client(server.url) as client:
        predictions = client.predict(b"cell", adapter=["malaria", "smoking"])
        assert [p.adapter.name for p in predictions] == ["malaria", "smoking"]
        assert [p.request_id for p in predictions] == ["r-1", "r-1"]
        (only,) = client.predict(b"cell", adapter=["smoking"])
        assert only.adapter.name == "smoking"


@pytest.mark.parametrize("pinned", ["malaria@2", f"malaria@sha256:{'1b' * 32}", "smoking"])
def test_a_response_about_another_adapter_is_refused(pinned: str) -> None:
    handle, _ = answering(good())
    with mocked(handle) as client, pytest.raises(AdapterMismatch) as caught:
        client.predict(b"pixels", adapter=pinned)
    assert caught.value.request_id == "r-1"


def test_fewer_results_than_adapters_are_refused() -> None:
    handle, _ = answering(httpx.Response(200, json={"results": [PREDICTION], "request_id": "r-1"}))
    with mocked(handle) as client, pytest.raises(AdapterMismatch, match="found predictions of 1 adapters, expected 2"):
        client.predict(b"pixels", adapter=["malaria", "smoking"])


def test_a_redirect_is_not_followed() -> None:
    handle, seen = answering(httpx.Response(302, headers={"Location": "http://elsewhere/"}))
    with mocked(handle) as client, pytest.raises(UnexpectedResponse, match="redirects are not followed"):
        client.limits()
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("image", "adapter", "top_k"),
    [("none.png", "malaria", 5), (b"", "malaria", 5), (b"x", "No", 5), (b"x", [], 5), (b"x", "malaria", 0)],
)
def test_wrong_arguments_send_nothing(image: Any, adapter: Any, top_k: int) -> None:
    handle, seen = answering()
    with mocked(handle) as client, pytest.raises(InvalidInput):
        client.predict(image, adapter=adapter, top_k=top_k)
    assert seen == []


def test_health_limits_and_integrity(server: Any) -> None:
    with Client(server.url) as client:
        assert client.health().status == "ok"
        assert client.limits() == {"max_image_bytes": 1000}
        integrity = client.integrity()
    assert integrity.ok
    assert integrity.report["tensors"] == 3
