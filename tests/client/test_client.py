"""Both clients against a real socket, and against responses that no correct server sends."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from lensmount_client import (
    AdapterMismatch,
    AdapterNotFound,
    AsyncClient,
    BackboneMismatch,
    Client,
    Draining,
    ImageInput,
    ImageTruncated,
    InvalidInput,
    QueueFull,
    ResponseTooLarge,
    RetryPolicy,
    Score,
    ServerUnreachable,
    TimedOut,
    Timeout,
    UnexpectedResponse,
)

DIGEST = "sha256:" + "0a" * 32
PREDICTION: dict[str, Any] = {
    "adapter": {"name": "malaria", "version": 3, "digest": DIGEST},
    "backbone": {"name": "tiny", "fingerprint": "sha256:" + "f" * 64},
    "predictions": [{"label": "parasitized", "score": 0.97}, {"label": "uninfected", "score": 0.03}],
    "request_id": "r-1",
    "timing_ms": {"queue": 0, "total": 4.5},
}
Handler = Callable[[httpx.Request], httpx.Response]


def mocked(handler: Handler, **options: Any) -> Client:
    return Client(transport=httpx.MockTransport(handler), **options)


def answering(*responses: httpx.Response | Exception) -> tuple[Handler, list[httpx.Request]]:
    """A handler that gives these in turn, and the requests it got."""
    left, seen = list(responses), []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        response = left.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    return handle, seen


def good(**changes: Any) -> httpx.Response:
    return httpx.Response(200, json={**PREDICTION, **changes})


def said_no(status: int, code: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"code": code, "detail": "no"}, headers=named)


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


def test_the_async_client_sends_its_timeout_too() -> None:
    handle, seen = answering(good(), good())

    async def ask() -> None:
        async with AsyncClient(transport=httpx.MockTransport(handle), timeout=7.5) as client:
            await client.predict(b"pixels", adapter="malaria")
            assert [outcome.error async for outcome in client.predict_many([b"pixels"], adapter="malaria")] == [None]

    asyncio.run(ask())
    assert [request.url.params.get("timeout") for request in seen] == ["7.5", "7.5"]


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapter": None}, "adapter: found None, expected an object"),
        ({"adapter": {"name": "malaria", "version": "3"}}, "adapter.version: found '3', expected a whole number"),
        ({"adapter": {"name": "malaria", "version": True}}, "adapter.version: found True"),
        ({"adapter": {"name": "malaria", "version": 3}}, "without adapter.digest"),
        ({"predictions": []}, r"without predictions\[0\]"),
        ({"predictions": {}}, "predictions: found {}, expected a list"),
        ({"predictions": [{"label": 1, "score": 0.1}]}, r"predictions\[0\].label"),
        ({"predictions": [{"label": "x", "score": "high"}]}, r"predictions\[0\].score"),
        ({"timing_ms": {"total": None}}, "timing_ms.total"),
        ({"request_id": 7}, "request_id: found 7"),
    ],
)
def test_a_wrong_field_of_a_response_is_named_by_its_path(changes: dict[str, Any], message: str) -> None:
    handle, _ = answering(good(**changes))
    with mocked(handle) as client, pytest.raises(UnexpectedResponse, match=message):
        client.predict(b"pixels", adapter="malaria")


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b"[]", b"null", b"\xff", b"[" * 9999, b'{"a": 1e999}'])
def test_an_html_page_instead_of_a_prediction_is_a_typed_error(body: bytes) -> None:
    handle, _ = answering(httpx.Response(200, content=body, headers={"X-Request-Id": "r-7"}))
    with mocked(handle) as client, pytest.raises(UnexpectedResponse) as caught:
        client.predict(b"pixels", adapter="malaria")
    assert caught.value.request_id == "r-7"


def test_a_redirect_is_not_followed() -> None:
    handle, seen = answering(httpx.Response(302, headers={"Location": "http://elsewhere/"}))
    with mocked(handle) as client, pytest.raises(UnexpectedResponse, match="redirects are not followed"):
        client.limits()
    assert len(seen) == 1


def test_an_endless_response_is_cut_off() -> None:
    def forever() -> Any:
        while True:
            yield b"x" * 1000

    handle, _ = answering(httpx.Response(200, content=forever()))
    with mocked(handle, max_response_bytes=10_000) as client, pytest.raises(ResponseTooLarge, match="10000"):
        client.limits()


def test_a_body_that_cannot_be_decoded_is_a_typed_error() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept-encoding"] == "identity"
        return httpx.Response(200, stream=httpx.ByteStream(b"no gzip"), headers={"Content-Encoding": "gzip"})

    with mocked(handle) as client, pytest.raises(UnexpectedResponse, match="cannot be decoded"):
        client.limits()


@pytest.mark.parametrize(
    "hiccup",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.RemoteProtocolError("hung up"),
        httpx.ReadError("reset"),
        httpx.WriteError("reset"),
        said_no(408, "request_timeout"),
        said_no(429, "queue_full"),
        said_no(503, "draining"),
        httpx.Response(503, text="<html>"),
    ],
)
def test_a_temporary_failure_is_retried(hiccup: httpx.Response | Exception) -> None:
    handle, seen = answering(hiccup, hiccup, good())
    naps: list[float] = []
    with mocked(handle, sleep=naps.append) as client:
        assert client.predict(b"pixels", adapter="malaria").top.label == "parasitized"
    assert [request.content for request in seen] == [b"pixels"] * 3
    assert len(naps) == 2


def test_the_wait_is_what_the_server_asks_for() -> None:
    naps: list[float] = []
    policy = RetryPolicy(random=lambda: 0.0, clock=lambda: 0.0)
    handle, _ = answering(
        said_no(429, "queue_full", retry_after="7"),
        said_no(503, "draining", retry_after="Thu, 01 Jan 1970 00:00:11 GMT"),
        said_no(429, "queue_full", retry_after="-5"),
        good(),
    )
    with mocked(handle, retries=policy, sleep=naps.append) as client:
        client.predict(b"pixels", adapter="malaria")
    assert naps == [7.0, 11.0, 0.5]


def test_the_last_error_is_raised_when_the_retries_are_spent() -> None:
    handle, seen = answering(*[said_no(429, "queue_full", retry_after="1")] * 3)
    with mocked(handle, retries=2, sleep=lambda s: None) as client, pytest.raises(QueueFull) as caught:
        client.limits()
    assert len(seen) == 3
    assert caught.value.retry_after_s == 1.0


@pytest.mark.parametrize("refusal", [said_no(409, "backbone_mismatch"), httpx.ReadTimeout("slow")])
def test_permanent_errors_are_not_retried(refusal: httpx.Response | Exception) -> None:
    handle, seen = answering(refusal)
    with mocked(handle) as client, pytest.raises((BackboneMismatch, TimedOut)):
        client.limits()
    assert len(seen) == 1


def test_bad_health_is_reported_at_once() -> None:
    handle, seen = answering(said_no(503, "draining"))
    with mocked(handle) as client, pytest.raises(Draining):
        client.health()
    assert [request.url.path for request in seen] == ["/health/ready"]


def test_without_a_server_the_message_says_how_to_start_one(server: Any) -> None:
    with Client("http://127.0.0.1:9", retries=0) as client, pytest.raises(ServerUnreachable) as caught:
        client.health()
    assert str(caught.value).startswith("no server answers at http://127.0.0.1:9")
    assert "`lensmount serve`" in str(caught.value)
    assert isinstance(caught.value.__cause__, httpx.ConnectError)


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


def test_predict_many_continues_after_a_broken_image_and_keeps_the_order(server: Any, tmp_path: Path) -> None:
    inputs: list[ImageInput] = [b"one", b"bad", tmp_path / "none.png", b"two"]
    told: list[tuple[int, int | None]] = []
    with Client(server.url) as client:
        outcomes = list(
            client.predict_many(inputs, adapter="malaria", concurrency=2, progress=lambda *n: told.append(n))
        )
    assert [outcome.input for outcome in outcomes] == inputs
    assert [o.prediction.top.label if o.prediction else None for o in outcomes] == ["one", None, None, "two"]
    assert [type(outcome.error) for outcome in outcomes] == [type(None), ImageTruncated, InvalidInput, type(None)]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_predict_many_takes_folders_patterns_and_generators(server: Any, tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "c.txt"):
        (tmp_path / name).write_bytes(name.encode())
    with Client(server.url) as client:

        def labels(inputs: Any, **options: Any) -> list[str]:
            outcomes = client.predict_many(inputs, "malaria", **options)
            return [outcome.prediction.top.label for outcome in outcomes if outcome.prediction]

        assert labels(tmp_path) == ["a.png", "b.jpg"]
        assert labels(f"{tmp_path}/*.txt") == ["c.txt"]
        assert labels((text.encode() for text in "xyz"), ordered=False, progress=True).sort() is None


def test_predict_many_gives_one_outcome_for_each_adapter_from_one_request(server: Any) -> None:
    with Client(server.url) as client:
        outcomes = list(client.predict_many([b"cell", b"bad"], ["malaria", "smoking"], concurrency=1))
    assert [(o.input, o.adapter, o.error is None) for o in outcomes] == [
        (b"cell", "malaria", True),
        (b"cell", "smoking", True),
        (b"bad", "malaria", False),
        (b"bad", "smoking", False),
    ]
    assert len(server.images) == 2


def test_predict_many_refuses_impossible_arguments_at_once() -> None:
    with Client() as client:
        for wrong in (b"one image", io.BytesIO(b"one image")):
            with pytest.raises(InvalidInput, match="list"):
                client.predict_many(wrong, "malaria")  # type: ignore[arg-type]  # what an untyped caller passes
        with pytest.raises(InvalidInput, match="concurrency"):
            client.predict_many([], "malaria", concurrency=0)
        with pytest.raises(InvalidInput, match="adapter"):
            client.predict_many([], "NO")
        assert list(client.predict_many([], "malaria")) == []


def test_a_loop_that_is_left_early_sends_only_a_little_more(server: Any) -> None:
    with Client(server.url) as client:
        for outcome in client.predict_many((b"%d" % n for n in range(1000)), "malaria", concurrency=2):
            assert outcome.prediction
            break
    assert len(server.images) <= 4


def test_the_async_client_does_the_same(server: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with AsyncClient(server.url) as client:
            assert (await client.predict(b"cell", adapter="malaria")).top.label == "cell"
            assert [p.adapter.name for p in await client.predict(b"x", ["malaria", "smoking"])] == [
                "malaria",
                "smoking",
            ]
            with pytest.raises(AdapterNotFound, match="no adapter is called none"):
                await client.predict(b"cell", adapter="none")
            outcomes = [o async for o in client.predict_many([b"one", b"bad", b"two"], "malaria", concurrency=2)]
            assert [o.prediction.top.label if o.prediction else None for o in outcomes] == ["one", None, "two"]
            assert isinstance(outcomes[1].error, ImageTruncated)
            assert (await client.health()).status == "ok"
            assert await client.limits() == {"max_image_bytes": 1000}
            assert (await client.integrity()).ok

    asyncio.run(run())


def test_the_async_client_retries_and_waits_as_the_server_asks() -> None:
    handle, seen = answering(said_no(429, "queue_full", retry_after="3"), httpx.ReadError("reset"), good())
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    async def run() -> None:
        policy = RetryPolicy(random=lambda: 0.0)
        async with AsyncClient(transport=httpx.MockTransport(handle), retries=policy, sleep=nap) as client:
            assert (await client.predict(b"pixels", "malaria")).top.label == "parasitized"

    asyncio.run(run())
    assert (len(seen), naps) == (3, [3.0, 0.25])


def test_a_client_works_in_front_of_an_asgi_application() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(PREDICTION).encode()})

    async def run() -> str:
        async with AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return (await client.predict(b"pixels", "malaria")).top.label

    assert asyncio.run(run()) == "parasitized"
