"""Opens everything that a server needs, serves until it is told to stop, and closes everything."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

import structlog
import uvicorn
from starlette.types import ASGIApp

from lensmount_adapters import Backbone
from lensmount_service.build import open_parts
from lensmount_service.errors import Unavailable
from lensmount_service.middleware import MAX_HEAD_BYTES, MAX_HEADERS, MAX_PATH_BYTES
from lensmount_service.settings import Settings
from lensmount_service.startup import BACKLOG, SWITCH_S, Tell, own_url, port_taken, say_nothing
from lensmount_service.stopping import Stopping
from lensmount_service.web.transport import KEEP_ALIVE_S, TransportLimits, protocol_of
from lensmount_service.worker.supervisor import WorkerProcess

if TYPE_CHECKING:
    from lensmount_service.oip.grpc_server import GrpcServer

log = structlog.get_logger(__name__)

LAST_S = 4.0  # from the end of the drain to the end of the process, whatever still runs


def serve(
    settings: Settings,
    backbone: Backbone | None = None,
    bound: socket.socket | None = None,
    tell: Tell = say_nothing,
) -> None:
    """Serve until SIGINT or SIGTERM, finish accepted requests, return.

    Raises OSError if the port is taken, or Unavailable (`device_lost`) after the device answered no more.

    `bound` is the socket, if the caller has already taken the port. `tell` receives progress messages.
    """
    open_grpc = None if settings.grpc_port is None else _grpc_server()
    with (
        contextlib.nullcontext(bound) if bound is not None else port_taken(settings) as listener,
        open_parts(settings, backbone, tell) as parts,
    ):
        listener.listen(BACKLOG)  # a client that reads the line `serving` may connect; it is answered after the warm-up
        config = _config(parts.app, settings)
        host, port = listener.getsockname()[:2]
        log.info(
            "serving",
            url=f"http://{host}:{port}",
            backbone=parts.engine.backbone.name,
            adapters=len(parts.catalog.entries()),
            threads=settings.threads,
            **parts.engine.runner.describe(),
            state=str(settings.state),
        )
        sys.setswitchinterval(SWITCH_S)
        gc.freeze()
        gc.enable()  # `lensmount serve` turns it off during imports
        token: str = parts.app.state.worker_token
        worker = WorkerProcess(settings, own_url(host, port), token=token) if settings.with_worker else None
        with worker or contextlib.nullcontext():
            last = LastResort(settings.drain_timeout_s + LAST_S)
            server = _Server(config, settings, parts.training.stopping, last, tell, own_url(host, port))
            if open_grpc is not None:
                server.open_grpc = partial(open_grpc, parts.app, settings)
            parts.engine.when_lost(server.stop)
            try:
                server.run([listener])
            finally:
                # Otherwise Python's last collection skips these objects, and triton reports its types as leaked.
                gc.unfreeze()
        if parts.engine.lost:
            raise parts.engine.lost_error()
    if parts.engine.shadows.is_computing and threading.current_thread() is threading.main_thread():
        LastResort.end()  # Python would end the thread in the middle of a library, which aborts the process


def listen(app: ASGIApp, settings: Settings, bound: socket.socket, after_s: float, tell: Tell, url: str) -> None:
    """Serve an application without an engine of this process, as `serve` does: until SIGINT or SIGTERM.

    The process ends `after_s` seconds after the signal at the latest.
    """
    bound.listen(BACKLOG)
    last = LastResort(after_s)
    _Server(_config(app, settings), settings, Stopping(), last, tell, url).run([bound])


class _Server(uvicorn.Server):
    """uvicorn raises the signal again after its clean shutdown; then the process would not exit with 0."""

    def __init__(
        self, config: uvicorn.Config, settings: Settings, stopping: Stopping, last: LastResort, tell: Tell, url: str
    ) -> None:
        super().__init__(config)
        self._settings = settings
        self._stopping = stopping
        self._tell = tell
        self._url = url
        self._last = last
        self.open_grpc: Callable[[], GrpcServer] | None = None
        self._grpc: GrpcServer | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.open_grpc is not None:
            self._grpc = self.open_grpc()  # on the event loop; takes the port
        await super().startup(sockets)
        if self.started and self._grpc is not None:
            await self._grpc.start()
            log.info("serving gRPC", host=self._settings.host, port=self._grpc.port)
        if self.started:
            self._tell(f"Ready at {self._url}: open it in a browser, {self._url}/docs shows the API. Ctrl-C stops it.")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._tell("Stopping after accepted requests are finished. Press Ctrl-C again to stop at once.")
        self._last.arm()
        if self._grpc is not None:
            await self._grpc.stop(self._stopping.left_s(self._settings.drain_timeout_s))
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """End as after SIGTERM; safe from any thread."""
        self._stopping.set()
        self.should_exit = True

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping.set()  # ends the event streams, which would otherwise last as long as their jobs
        self.handle_exit(number, frame)


def _config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """uvicorn behind the server's own transport."""
    return uvicorn.Config(
        app,
        http=protocol_of(_transport_limits(settings)),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=int(KEEP_ALIVE_S),
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s),
    )


def _grpc_server() -> type[GrpcServer]:
    """Raises Unavailable if its library is not installed."""
    try:
        from lensmount_service.oip.grpc_server import GrpcServer  # its library is an extra
    except ModuleNotFoundError as error:
        raise Unavailable(f'--grpc-port needs the package {error.name}. Fix: pip install "lensmount[grpc]"') from error
    return GrpcServer


def _transport_limits(settings: Settings) -> TransportLimits:
    return TransportLimits(
        max_connections=settings.max_connections,
        max_head_bytes=MAX_PATH_BYTES + MAX_HEAD_BYTES + 4 * (MAX_HEADERS + 1),
        max_path_bytes=MAX_PATH_BYTES,
        head_timeout_s=settings.head_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        write_timeout_s=settings.write_timeout_s,
    )


class LastResort:
    """Ends the process some seconds after `arm`, even if a batch that outlasts the drain is still computed.

    Nothing is lost by then: what was acknowledged is on disk, and every request has its answer. It does nothing if the
    server runs in a thread of another program.
    """

    def __init__(self, after_s: float) -> None:
        self._timer = threading.Timer(after_s, self.end)
        self._timer.daemon = True

    def arm(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._timer.start()

    @staticmethod
    def end() -> None:
        log.warning("ended before all work was finished")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
