"""Replicas without Ray: the door's calls, pickled as Ray pickles them, run in this process and can be lost."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from lensmount_service.ray.answering import Answering, ReplicaFailed, ReplicaLost
from lensmount_service.ray.door import Door
from lensmount_service.ray.exchange import Exchange
from lensmount_service.ray.hints import Hints
from lensmount_service.ray.messages import Asked, Piece
from lensmount_service.ray.placement import ranked
from lensmount_service.settings import Settings


class NoHints(Hints):
    def __init__(self) -> None: ...

    async def digest(self, method: str, path: str, query: bytes, headers: Any) -> str | None:
        return "sha256:a" if path == "/predict" else None


class LocalReplicas:
    """`LocalReplicas({"r1": app, "r2": app})`; `lost` names replicas that end when they have taken a request."""

    def __init__(self, apps: Mapping[str, ASGIApp], lost: Sequence[str] = (), most_bytes: int | None = None) -> None:
        self.apps = dict(apps)
        self.lost = set(lost)
        self.most_bytes = most_bytes  # of a response, after which the replica is lost
        self.exchanges: dict[tuple[str, str], Exchange] = {}
        self.went: list[str] = []
        self.cancelled: list[str] = []
        self.leaving: set[asyncio.Future[None]] = set()
        self.told = 0

    def ask(self, asked: Asked) -> Answering:
        return Answering(asked, self._messages(asked), lambda: self._cancel(asked), self.tell)

    async def tell(self, piece: Piece) -> None:
        self.told += 1
        exchange = self.exchanges.get((piece.key, piece.replica))
        if exchange is not None:
            await exchange.give(pickle.loads(pickle.dumps(piece)))

    async def pages(self) -> dict[str, bytes]:
        return {}

    def _cancel(self, asked: Asked) -> None:
        """Ray cancels the generator, which ends the exchange; here the exchange is told that the client has left."""
        self.cancelled.append(asked.path)
        for (key, name), exchange in self.exchanges.items():
            if key == asked.key:
                self.leaving.add(asyncio.ensure_future(exchange.give(Piece(key, name, left=True))))

    async def _messages(self, asked: Asked) -> AsyncGenerator[Any, None]:
        while not self.apps:
            await asyncio.sleep(0.005)
        order = ranked(asked.digest or asked.key, dict.fromkeys(self.apps, 0), asked.tried)
        name = asked.wanted if asked.wanted in self.apps else order[0]
        asked.tried.append(name)
        self.went.append(name)
        if name in self.lost:
            raise ReplicaLost(name)
        exchange = Exchange(self.apps[name], pickle.loads(pickle.dumps(asked)), name)
        self.exchanges[asked.key, name] = exchange
        sent = 0
        messages = exchange.messages()
        try:
            async for message in messages:
                sent += len(message) if isinstance(message, bytes) else 0
                if self.most_bytes is not None and sent > self.most_bytes:
                    raise ReplicaLost(name)
                yield pickle.loads(pickle.dumps(message))
        except RuntimeError as error:
            raise ReplicaFailed(str(error)) from error
        finally:
            await messages.aclose()
            del self.exchanges[asked.key, name]


def door_of(replicas: LocalReplicas, **settings: Any) -> Door:
    return Door(replicas, NoHints(), Settings(**settings))


class BehindADoor:
    """An application behind a door with one replica. The lifespan and all attributes stay the application's own."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._door = Door(LocalReplicas({"r1": app}), NoHints(), app.state.context.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._app if scope["type"] == "lifespan" else self._door)(scope, receive, send)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)
