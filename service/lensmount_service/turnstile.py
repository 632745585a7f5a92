"""While predictions run, all other requests enter one at a time and leave half of the event loop to the predictions.

One thread reads and answers all requests, of HTTP and of gRPC. A client that asks for `/metrics` or `/adapters` again
and again would otherwise take that thread from the predictions: 2 such clients made a quiet client's p99 3.5 times as
long, and with this class 1.5 times (benchmarks/attacks.py). While no prediction runs, nothing waits here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SHARE = 0.5  # of the event loop's thread, which may be busy before the next request enters
LONGEST_PAUSE_S = 0.05  # between two that enter, even if the first one is still busy
LONGEST_WAIT_S = 1.0  # then a request enters, however many of its host wait: a worker must keep its lease
QUIET_S = 0.2  # without a prediction: then nothing waits
MAX_REFUSED = 1024  # connections remembered whose last prediction was refused

Client = tuple[str, int]  # host and port


class Turns:
    """`async with turns.prediction(client):` or `async with turns.other(client):` around the work on a request.

    Hosts take turns; only the event loop calls this. A prediction enters at once, unless the last one on its connection
    was refused: a refusal is quick, so it can be asked for more often than an answer.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, busy: Callable[[], float] = time.thread_time
    ) -> None:
        self._clock = clock
        self._busy = busy
        self._predictions = 0
        self._last_prediction = -QUIET_S
        self._entered_at = self._left_at = self._busy_then = 0.0
        self._number = 0  # of the last one that entered
        self._left = asyncio.Event()  # whether it has left
        self._left.set()
        self._refused: OrderedDict[Client, None] = OrderedDict()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._door: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def other(self, client: Client) -> AsyncIterator[None]:
        number = await self._turn(client[0])
        try:
            yield
        finally:
            self._leave(number)

    @contextlib.asynccontextmanager
    async def prediction(self, client: Client) -> AsyncIterator[None]:
        """The caller tells of its answer with `answered`."""
        number = await self._turn(client[0]) if client in self._refused else 0
        self._predictions += 1
        try:
            yield
        finally:
            self._predictions -= 1
            self._last_prediction = self._clock()
            self._leave(number)

    def answered(self, client: Client, status: int) -> None:
        """A prediction on this connection has this status of HTTP."""
        self._refused.pop(client, None)
        if 400 <= status < 500:
            self._refused[client] = None
            if len(self._refused) > MAX_REFUSED:
                self._refused.popitem(last=False)

    async def _turn(self, host: str) -> int:
        """Returns when this request may enter: its number, or 0 if nobody waits for it to leave."""
        if not self._waiting and not self._predictions and self._clock() - self._last_prediction >= QUIET_S:
            return 0
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(host, deque()).append(turn)
        if self._door is None:
            self._door = asyncio.create_task(self._open())
        try:
            await asyncio.wait_for(turn, LONGEST_WAIT_S)
        except TimeoutError:
            return 0
        return self._number

    def _leave(self, number: int) -> None:
        if number and number == self._number:
            self._left_at = self._clock()
            self._left.set()

    async def _open(self) -> None:
        try:
            while self._waiting:
                await self._rest()
                self._let_in()
                await asyncio.sleep(0)  # so that it takes its own number
        finally:
            self._door = None

    def _let_in(self) -> None:
        """The next one whose client has not left, and that has not entered because it waited long."""
        while self._waiting:
            host, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[host] = turns  # behind the other hosts
            if not turn.done():
                self._number += 1
                self._left.clear()
                turn.set_result(None)
                return

    async def _rest(self) -> None:
        """Until the last one has left, and its time and the thread's busy time since then are `SHARE` of all time."""
        ends = self._entered_at + LONGEST_PAUSE_S
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._left.wait(), max(0.0, ends - self._clock()))
        busy = max(self._busy() - self._busy_then, self._left_at - self._entered_at)
        await asyncio.sleep(max(0.0, min(ends, self._entered_at + busy / SHARE) - self._clock()))
        self._entered_at, self._busy_then = self._clock(), self._busy()


class Turnstile:
    """`is_prediction` says of a request whether it is one. The paths in `probes` enter at once too, because a server
    whose health is answered late is restarted.
    """

    def __init__(
        self, app: ASGIApp, turns: Turns, is_prediction: Callable[[Scope], bool], probes: Collection[str] = ()
    ) -> None:
        self.app = app
        self._turns = turns
        self._is_prediction = is_prediction
        self._probes = probes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._probes:
            await self.app(scope, receive, send)
            return
        host, port = scope.get("client") or ("", 0)
        client = (host, port)

        async def noticed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._turns.answered(client, message["status"])
            await send(message)

        if self._is_prediction(scope):
            async with self._turns.prediction(client):
                await self.app(scope, receive, noticed)
        else:
            async with self._turns.other(client):
                await self.app(scope, receive, send)
