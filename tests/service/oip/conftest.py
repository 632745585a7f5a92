"""A server that listens, with small adapters as models, and what POST /predict answers there."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp

from lensmount_service.build import Parts
from lensmount_service.web.transport import TransportLimits, protocol_of

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakeTrusted


@contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """Serves an app on a free port, in a thread, behind the server's own transport. Yields HOST:PORT."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, http=protocol_of(TransportLimits()), ws="none", log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield "{}:{}".format(*listener.getsockname())
        finally:
            server.should_exit = True
            thread.join()


Listen = Callable[[ASGIApp], AbstractContextManager[str]]


@pytest.fixture(scope="session")
def listen() -> Listen:
    """`with listen(app) as address: ...`"""
    return listening


@dataclass(frozen=True)
class Served:
    """A server with `cells` (a, b; its first version is `prod`), `tiles` (x, y, z) and `sure`, which has trust."""

    address: str
    parts: Parts
    http: httpx.Client

    def predict(self, adapter: str, *images: bytes) -> list[dict[str, float]]:
        """The scores of POST /predict, by label, for each image."""
        if len(images) == 1:
            answer = self.http.post(f"/predict?adapter={adapter}", content=images[0])
        else:
            answer = self.http.post(f"/predict?adapter={adapter}", files=[("file", image) for image in images])
        assert answer.status_code == 200, answer.text
        document = answer.json()
        return [
            {each["label"]: each["score"] for each in result["predictions"]}
            for result in document.get("results", [document])
        ]


@pytest.fixture(scope="module")
def served(make_shared_parts: MakeParts, make_adapter: MakeAdapter, make_trusted: MakeTrusted) -> Iterator[Served]:
    files = {"cells": make_adapter(1, ("a", "b")), "tiles": make_adapter(2, ("x", "y", "z")), "sure": make_trusted()}
    with make_shared_parts() as parts, listening(parts.app) as address:
        with httpx.Client(base_url=f"http://{address}") as http:
            for name, data in files.items():
                assert http.put(f"/adapters/{name}", content=data).status_code == 201
            assert http.put("/adapters/cells", content=make_adapter(3, ("a", "b"))).status_code == 201
            assert http.put("/adapters/cells/aliases/prod", json={"version": 1}).status_code == 200
            yield Served(address, parts, http)
