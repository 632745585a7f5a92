from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from starlette.types import Message, Receive, Scope, Send

from lensmount_service.turnstile import Turns, Turnstile


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class App:
    """Answers at once, except predictions named `/slow`, which wait for `go`. Notes the order of entry."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.entered: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered.append(scope["path"])
        if scope["path"] == "/slow":
            await self.go.wait()
        await send({"type": "http.response.start", "status": 413 if scope["path"] == "/refused" else 200})


class Time:
    """Wall time and the time for which the thread was busy, in seconds."""

    def __init__(self) -> None:
        self.now, self.busy = 1000.0, 0.0


def turnstile(app: App, time: Time) -> Turnstile:
    turns = Turns(lambda: time.now, lambda: time.busy)
    return Turnstile(app, turns, lambda scope: scope["method"] == "POST", {"/health"})


async def ask(door: Turnstile, path: str, method: str = "GET", host: str = "one", port: int = 1) -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        return None

    await door({"type": "http", "method": method, "path": path, "client": (host, port)}, receive, send)


async def slow_prediction(door: Turnstile) -> asyncio.Task[None]:
    prediction = asyncio.create_task(ask(door, "/slow", "POST"))
    await asyncio.sleep(0)
    return prediction


async def ended(app: App, tasks: Sequence[asyncio.Task[None]]) -> None:
    app.go.set()
    await asyncio.gather(*tasks)


@pytest.mark.anyio
async def test_without_predictions_nothing_waits() -> None:
    app, time = App(), Time()
    time.busy = 1e6
    door = turnstile(app, time)
    tasks = [asyncio.create_task(ask(door, f"/{number}")) for number in range(3)]
    await asyncio.sleep(0)

    assert app.entered == ["/0", "/1", "/2"]
    await ended(app, tasks)


@pytest.mark.anyio
async def test_while_a_prediction_runs_the_others_enter_one_by_one_in_turns_of_their_hosts() -> None:
    app, time = App(), Time()
    door = turnstile(app, time)
    tasks = [await slow_prediction(door)]
    for path in ("/a1", "/a2", "/a3", "/b1"):
        tasks.append(asyncio.create_task(ask(door, path, host=path[1])))
    await asyncio.gather(*tasks[1:])

    assert app.entered == ["/slow", "/a1", "/b1", "/a2", "/a3"]
    await ended(app, tasks)


@pytest.mark.anyio
async def test_the_next_request_enters_when_the_thread_was_idle_as_long_as_it_was_busy() -> None:
    app, time = App(), Time()
    door = turnstile(app, time)
    tasks = [await slow_prediction(door)]
    await ask(door, "/first")
    time.busy += 0.02
    started = asyncio.get_running_loop().time()
    await ask(door, "/second")

    assert asyncio.get_running_loop().time() - started >= 0.035
    await ended(app, tasks)


@pytest.mark.anyio
async def test_a_prediction_enters_at_once_unless_the_last_on_its_connection_was_refused() -> None:
    app, time = App(), Time()
    door = turnstile(app, time)
    tasks = [await slow_prediction(door)]
    await ask(door, "/refused", "POST", port=2)
    for path, port in (("/after", 2), ("/other", 3)):
        tasks.append(asyncio.create_task(ask(door, path, "POST", port=port)))
    await asyncio.gather(*tasks[1:])
    await ask(door, "/again", "POST", port=2)

    assert app.entered == ["/slow", "/refused", "/other", "/after", "/again"]
    await ended(app, tasks)


@pytest.mark.anyio
async def test_a_client_that_leaves_while_it_waits_stops_nobody() -> None:
    app, time = App(), Time()
    door = turnstile(app, time)
    tasks = [await slow_prediction(door)]
    leaving, staying = (asyncio.create_task(ask(door, path)) for path in ("/leaves", "/stays"))
    await asyncio.sleep(0)
    leaving.cancel()
    await staying

    assert app.entered == ["/slow", "/stays"]
    await ended(app, tasks)


@pytest.mark.anyio
async def test_a_probe_waits_for_nobody() -> None:
    app, time = App(), Time()
    door = turnstile(app, time)
    tasks = [await slow_prediction(door)]
    tasks += [asyncio.create_task(ask(door, f"/{number}")) for number in range(3)]
    await asyncio.sleep(0)
    await ask(door, "/health")

    assert app.entered[:2] == ["/slow", "/health"]
    await ended(app, tasks)


@pytest.mark.anyio
async def test_a_request_enters_after_a_second_however_many_wait_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensmount_service.turnstile.LONGEST_WAIT_S", 0.02)
    app, time = App(), Time()
    door = turnstile(app, time)
    tasks = [await slow_prediction(door)]
    await ask(door, "/first")
    time.busy += 100.0  # the thread is never idle
    tasks += [asyncio.create_task(ask(door, f"/{number}")) for number in range(50)]
    last = asyncio.create_task(ask(door, "/last"))
    await asyncio.wait_for(last, 1.0)

    assert "/last" in app.entered
    await ended(app, tasks)
