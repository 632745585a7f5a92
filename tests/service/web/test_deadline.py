"""Predictions that are late or whose client disconnected, on a real app whose engine the test holds back."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lensmount_adapters import Adapter, Backbone, ExactSwapper
from lensmount_service import build, warming
from lensmount_service.build import Parts

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng

WAIT_S = 20


class Gate(ExactSwapper):
    """Holds the engine in its first mount until the test opens the gate."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.reached, self.open = threading.Event(), threading.Event()

    def mount(self, adapter: Adapter) -> bool:
        self.reached.set()
        self.open.wait(WAIT_S)
        return super().mount(adapter)


Held = Callable[..., AbstractContextManager[tuple[Parts, Gate]]]
Listening = Callable[[FastAPI], AbstractContextManager[tuple[str, int]]]


@pytest.fixture
def held(make_parts: MakeParts, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch) -> Held:
    """`with held(max_queue=4) as (parts, gate): ...`: the adapters cells and tiles, and an engine behind a gate."""

    @contextmanager
    def opened(**settings: Any) -> Iterator[tuple[Parts, Gate]]:
        gates: list[Gate] = []

        def swapper(backbone: Backbone) -> Gate:
            gates.append(Gate(backbone))
            return gates[-1]

        monkeypatch.setattr(build, "ExactSwapper", swapper)
        monkeypatch.setattr(warming, "FIRST", 0)  # the gate would hold the image that warms an adapter, and the start
        with make_parts(executor="merged", **settings) as parts:
            (gate,) = gates
            parts.catalog.upload("cells", make_adapter(1, ("a", "b")))
            parts.catalog.upload("tiles", make_adapter(2, ("x", "y", "z")))
            try:
                yield parts, gate
            finally:
                gate.open.set()

    return opened


@pytest.fixture
def listening() -> Listening:
    @contextmanager
    def listen(app: FastAPI) -> Iterator[tuple[str, int]]:
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            until(lambda: server.started)
            yield server.servers[0].sockets[0].getsockname()
        finally:
            server.should_exit = True
            thread.join()

    return listen


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.001)


def requests_total(page: str, code: int) -> float:
    return sum(float(value) for value in re.findall(rf'requests_total{{adapter="tiles",code="{code}"}} (\S+)', page))


@pytest.mark.parametrize("timeout", ["0", "-1", "600.5", "inf", "nan", "soon", ""])
def test_a_timeout_is_seconds_above_0_and_at_most_600(
    shared_client: TestClient, make_png: MakePng, timeout: str
) -> None:
    answer = shared_client.post("/predict", params={"adapter": "cells", "timeout": timeout}, content=make_png())

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["pointer"] == "/query/timeout"


@pytest.mark.parametrize("timeout", ["30.5", "600"])
def test_a_result_in_time_is_returned(shared_client: TestClient, make_png: MakePng, timeout: str) -> None:
    answer = shared_client.post("/predict", params={"adapter": "cells", "timeout": timeout}, content=make_png())

    assert answer.status_code == 200


@pytest.mark.parametrize("stated", [True, False])
def test_images_that_wait_too_long_answer_504_and_are_never_computed(
    held: Held, make_png: MakePng, stated: bool
) -> None:
    """The timeout is stated in the request or comes from the server's settings."""
    with held(request_timeout_s=60 if stated else 0.2) as (parts, gate):
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            first = threading.Thread(
                target=client.post, args=("/predict?adapter=cells&timeout=60",), kwargs={"content": make_png()}
            )
            first.start()
            assert gate.reached.wait(WAIT_S)
            files = [("file", ("1.png", make_png(1))), ("file", ("2.png", make_png(2)))]
            late = client.post(f"/predict?adapter=tiles{'&timeout=0.2' * stated}", files=files)
            assert parts.engine.waiting == 0
            gate.open.set()
            first.join()
            page = client.get("/metrics").text

    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    assert "after 0.2 s. Fix: allow a longer timeout" in late.json()["detail"]
    assert requests_total(page, 504) == 1
    assert 'lensmount_inflight{adapter="tiles"} 0.0' in page
    assert "lensmount_batch_size_sum 1.0" in page  # only the first request's image


def test_an_image_that_takes_too_long_itself_answers_504_in_time(held: Held, make_png: MakePng) -> None:
    with held() as (parts, gate):
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            late = client.post("/predict?adapter=cells&timeout=0.2", content=make_png())
            assert gate.reached.is_set()
            assert not gate.open.is_set()
            gate.open.set()

    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")


@pytest.mark.parametrize("abruptly", [False, True])
def test_a_client_that_disconnects_leaves_the_queue_and_frees_its_room_at_once(
    held: Held, listening: Listening, make_png: MakePng, abruptly: bool
) -> None:
    with held(max_queue=4) as (parts, gate), listening(parts.app) as address:
        url = f"http://{address[0]}:{address[1]}"
        answers = []
        first = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/predict?adapter=cells", content=make_png(), timeout=60))
        )
        first.start()
        assert gate.reached.wait(WAIT_S)
        leaving = socket.create_connection(address)
        request = httpx.Request(
            "POST",
            f"{url}/predict?adapter=tiles",
            files=[("file", (f"{i}.png", make_png(i))) for i in range(4)],
        )
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        leaving.sendall(f"POST {request.url.raw_path.decode()} HTTP/1.1\r\n{head}\r\n".encode() + request.read())
        until(lambda: parts.engine.waiting == 4)
        full = httpx.post(f"{url}/predict?adapter=tiles", content=make_png())
        if abruptly:
            leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST instead of FIN
        leaving.close()
        until(lambda: parts.engine.waiting == 0)
        assert not gate.open.is_set()  # so nothing was computed meanwhile
        last = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/predict?adapter=cells", content=make_png(), timeout=60))
        )
        last.start()
        until(lambda: parts.engine.waiting == 1)
        gate.open.set()
        first.join()
        last.join()
        page = httpx.get(f"{url}/metrics").text

    assert json.loads(full.content)["code"] == "queue_full"
    assert [answer.status_code for answer in answers] == [200, 200]
    assert requests_total(page, 499) == 1
    assert 'lensmount_inflight{adapter="tiles"} 0.0' in page
    assert "lensmount_batch_size_sum 2.0" in page


def test_a_connection_serves_one_request_after_the_other(
    listening: Listening, make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    """Watching for a disconnect does not consume the next request, even if it arrives before the response."""
    with make_parts() as parts, listening(parts.app) as address:
        parts.catalog.upload("cells", make_adapter(1))
        image = make_png()
        request = (
            f"POST /predict?adapter=cells HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(image)}\r\n\r\n"
        ).encode() + image
        with socket.create_connection(address) as connection:
            connection.settimeout(WAIT_S)
            connection.sendall(request * 5)
            received = b""
            while received.count(b'"predictions"') < 5:
                chunk = connection.recv(65536)
                assert chunk
                received += chunk

    assert received.count(b"HTTP/1.1 200 OK") == 5
