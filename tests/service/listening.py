"""A server that listens, for clients that bring their own connections."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import uvicorn
from starlette.types import ASGIApp

from lensmount_service.web.transport import TransportLimits, protocol_of

Listen = Callable[[ASGIApp], AbstractContextManager[str]]


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
