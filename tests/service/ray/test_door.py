"""lensmount_service.ray.door, answering and exchange: a request through the door, and what happens to lost replicas."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.service.ray.local_replicas import LocalReplicas, door_of

from lensmount_service.ray.door import Door
from lensmount_service.ray.exchange import WINDOW_BYTES
from lensmount_service.ray.messages import Asked

MIB = 2**20


class Application:
    """A small application, and what it has seen. `produced` counts the bytes of its endless response."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.produced = 0
        self.left, self.entered = asyncio.Event(), asyncio.Event()
        routes = [
            Route("/predict", self.echo, methods=["POST"]),
            Route("/write", self.echo, methods=["POST"]),
            Route("/early", self.early, methods=["POST"]),
            Route("/endless", self.endless),
            Route("/events", self.events),
            Route("/wait", self.wait),
            Route("/raise", self.fail),
        ]
        self.app = Starlette(routes=routes)

    async def echo(self, request: Request) -> Response:
        body = await request.body()
        self.seen.append(request.url.path)
        told = {"query": request.url.query, "headers": request.headers.getlist("x-two"), "client": request.client}
        answer = {**told, "length": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        return JSONResponse(answer, headers={"X-Answer": "yes"})

    async def early(self, request: Request) -> Response:
        return Response("refused", 413)

    async def endless(self, request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            while True:
                self.produced += MIB
                yield bytes(MIB)

        return StreamingResponse(parts())

    async def events(self, request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"one\n"
            await self.left.wait()
            yield b"two\n"

        return StreamingResponse(parts(), media_type="text/event-stream")

    async def wait(self, request: Request) -> Response:
        self.entered.set()
        while not await request.is_disconnected():
            await asyncio.sleep(0.001)
        self.left.set()
        return Response("nobody reads this")

    async def fail(self, request: Request) -> Response:
        raise ClientDisconnect


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def replicas(application: Application) -> LocalReplicas:
    return LocalReplicas(dict.fromkeys(("r1", "r2", "r3"), application.app))


def through(door: Door) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(door, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://door")


pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_request_and_its_response_are_the_same_as_without_a_door(replicas: LocalReplicas) -> None:
    headers = [("x-two", "a"), ("x-two", "b")]
    async with through(door_of(replicas)) as client:
        answer = await client.post("/predict?adapter=a%2Cb&top_k=1", content=b"image", headers=headers)
    assert answer.headers["x-answer"] == "yes"
    assert answer.json() == {
        "query": "adapter=a%2Cb&top_k=1",
        "headers": ["a", "b"],
        "client": ["127.0.0.1", 123],
        "length": 5,
        "sha256": hashlib.sha256(b"image").hexdigest(),
    }


@pytest.mark.parametrize(
    ("query", "headers"), [("?timeout=nan", {}), ("?timeout=soon", {}), ("", {"Content-Length": 5000 * "9"})]
)
async def test_odd_numbers_are_left_to_the_replica(
    replicas: LocalReplicas, query: str, headers: dict[str, str]
) -> None:
    async with through(door_of(replicas)) as client:
        answer = await client.post(f"/predict{query}", content=b"image", headers=headers)
    assert (answer.status_code, answer.json()["length"]) == (200, 5)


async def test_a_prediction_that_a_replica_loses_is_answered_by_another_one(replicas: LocalReplicas) -> None:
    replicas.lost = {"r1", "r2", "r3"} - {"r3"}
    async with through(door_of(replicas)) as client:
        answers = [await client.post("/predict", content=bytes([number])) for number in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert set(replicas.went) >= {"r3"}


async def test_after_three_lost_replicas_it_is_refused_and_may_be_sent_again(replicas: LocalReplicas) -> None:
    replicas.lost = {"r1", "r2", "r3"}
    async with through(door_of(replicas)) as client:
        answer = await client.post("/predict", content=b"image")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "draining", "1")
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert sorted(replicas.went) == ["r1", "r2", "r3"]


async def test_a_write_is_not_sent_twice_unless_it_has_a_key_against_repetition(
    replicas: LocalReplicas, application: Application
) -> None:
    replicas.lost = {"r1", "r2"}
    async with through(door_of(replicas)) as client:
        for _ in range(30):
            before = len(replicas.went)
            answer = await client.post("/write", content=b"once")
            assert len(replicas.went) == before + 1
            assert answer.status_code == 200 or (answer.status_code, answer.json()["code"]) == (
                504,
                "deadline_exceeded",
            )
        keyed = [await client.post("/write", headers={"Idempotency-Key": str(number)}) for number in range(10)]
    assert {answer.status_code for answer in keyed} == {200}


@pytest.mark.parametrize("known_length", [True, False])
async def test_a_body_that_is_too_large_to_be_held_is_sent_on_in_pieces(
    replicas: LocalReplicas, known_length: bool
) -> None:
    body = bytes(range(256)) * 4096 * 5  # 5 MiB

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    headers = {"content-length": str(len(body))} if known_length else {}
    async with through(door_of(replicas, max_image_bytes=MIB)) as client:
        answer = await client.post("/predict", content=parts(), headers=headers)
    assert answer.json()["sha256"] == hashlib.sha256(body).hexdigest()
    assert replicas.told >= 4


async def test_a_large_body_that_is_refused_at_once_is_not_read(replicas: LocalReplicas) -> None:
    read = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(1000):
            read += MIB
            yield bytes(MIB)

    async with through(door_of(replicas, max_image_bytes=MIB)) as client:
        answer = await client.post("/early", content=parts(), headers={"content-length": str(1000 * MIB)})
    assert (answer.status_code, answer.text) == (413, "refused")
    assert read < 20 * MIB


async def test_bodies_that_do_not_fit_into_memory_together_are_refused(replicas: LocalReplicas) -> None:
    async def at_once() -> AsyncIterator[bytes]:
        yield bytes(2 * MIB)

    large = ("request", "image", "volume", "adapter", "upload_chunk", "held", "json")
    async with through(door_of(replicas, **{f"max_{name}_bytes": MIB for name in large})) as client:
        answer = await client.post("/predict", content=at_once())
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")


async def spoken(
    door: Door, path: str, until: Any = lambda sent: False, left: asyncio.Event | None = None
) -> list[dict[str, Any]]:
    """What the door sends to a client that leaves with the event `left`, or when `until(sent)` is true."""
    sent: list[dict[str, Any]] = []
    left = left or asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not received:
            received.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if until(sent):
            left.set()

    received: list[bool] = []
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [],
        "client": None,
    }
    await asyncio.wait_for(door(scope, receive, send), 20)
    return sent


async def test_a_replica_stops_producing_when_the_client_reads_nothing_and_ends_when_it_leaves(
    replicas: LocalReplicas, application: Application
) -> None:
    def stands_still(sent: list[dict[str, Any]]) -> bool:
        return sum(len(message.get("body", b"")) for message in sent) >= 40 * MIB

    sent = await spoken(door_of(replicas), "/endless", stands_still)
    assert sent[0]["status"] == 200
    assert application.produced <= 40 * MIB + 2 * WINDOW_BYTES
    assert replicas.cancelled == ["/endless"]
    await asyncio.gather(*replicas.leaving)
    produced = application.produced
    await asyncio.sleep(0)
    assert application.produced == produced


async def test_events_arrive_while_the_response_goes_on(replicas: LocalReplicas, application: Application) -> None:
    def goes_on(sent: list[dict[str, Any]]) -> bool:
        if any(message.get("body") == b"one\n" for message in sent):
            application.left.set()
        return False

    sent = await spoken(door_of(replicas), "/events", goes_on)
    assert [message.get("body") for message in sent if message.get("body")] == [b"one\n", b"two\n"]


async def test_the_application_sees_a_client_that_leaves_while_it_works(
    replicas: LocalReplicas, application: Application
) -> None:
    assert await spoken(door_of(replicas), "/wait", left=application.entered) == []
    await asyncio.wait_for(application.left.wait(), 5)


async def test_a_replica_that_is_lost_in_the_middle_of_a_response_closes_the_connection(
    replicas: LocalReplicas,
) -> None:
    replicas.most_bytes = 10 * MIB
    with pytest.raises(Exception, match="r") as caught:
        await spoken(door_of(replicas), "/endless")
    assert type(caught.value).__name__ == "ReplicaLost"


async def test_an_application_that_fails_without_a_response_is_an_internal_error(replicas: LocalReplicas) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        return None

    replicas.apps = {"r1": broken}
    async with through(door_of(replicas)) as client:
        answer = await client.get("/adapters")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")


async def test_without_any_replica_a_prediction_is_refused_at_its_deadline(
    replicas: LocalReplicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensmount_service.ray.door.GRACE_S", 0.02)
    monkeypatch.setattr("lensmount_service.ray.door.PROBE_S", 0.02)
    replicas.apps = {}
    async with through(door_of(replicas)) as client:
        for answer in (await client.post("/predict?timeout=0.01"), await client.get("/health/ready")):
            assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "draining", "5")


async def test_feedback_goes_to_the_replica_that_has_the_image(replicas: LocalReplicas) -> None:
    async def named(scope: Any, receive: Any, send: Any) -> None:
        await Response("", headers={"X-Request-Id": "f" * 32})(scope, receive, send)

    replicas.apps = dict.fromkeys(("r1", "r2", "r3"), named)
    async with through(door_of(replicas, feedback="on")) as client:
        await client.post("/predict")
        for _ in range(5):
            await client.post(f"/feedback?adapter=a&request_id={'f' * 32}")
    assert len(set(replicas.went)) == 1


def test_each_request_has_its_own_key() -> None:
    asked = [Asked("GET", "/", b"/", b"", [], None, None, "http", b"") for _ in range(2)]
    assert asked[0].key != asked[1].key
