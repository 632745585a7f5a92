"""Open everything a server needs, serve until told to stop, close everything."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import structlog
import torch
import uvicorn
from fastapi import FastAPI

import lensmount_adapters
from lensmount_adapters import Backbone, ExactSwapper, Limits, SubtractingSwapper, Swapper, load_backbone
from lensmount_adapters.pristine import Reread
from lensmount_client._version import __version__
from lensmount_service.app import create_app
from lensmount_service.blobs import BlobStore
from lensmount_service.catalog import Catalog
from lensmount_service.engine import Engine
from lensmount_service.metrics import Metrics
from lensmount_service.registry import Registry
from lensmount_service.settings import Settings

log = structlog.get_logger(__name__)

KEEP_ALIVE_S = 75  # longer than clients keep idle connections (httpx: 5 s), so that none is closed under a request


@dataclass(frozen=True, slots=True)
class Parts:
    """What one server holds."""

    app: FastAPI
    engine: Engine
    catalog: Catalog


@contextmanager
def open_parts(settings: Settings, backbone: Backbone | None = None) -> Iterator[Parts]:
    """Backbone, registry, blobs, catalog, engine and app; the engine starts with the app's lifespan."""
    torch.set_num_threads(settings.threads)
    if backbone is None:
        backbone = _load(settings)
    swapper = _swapper(settings, backbone)
    metrics = Metrics(__version__, backbone.name, backbone.fingerprint)
    limits = Limits(max_file_bytes=settings.max_adapter_bytes)
    with contextlib.closing(Registry(settings.state / "registry.sqlite3")) as registry:
        blobs = BlobStore(settings.state / "blobs")
        catalog = Catalog(backbone, registry, blobs, limits, settings.cache_bytes, metrics)
        if settings.zoo:
            catalog.load_zoo(zoo_folder())
        engine = Engine(backbone, swapper, metrics, settings.max_batch, settings.max_queue)
        yield Parts(create_app(engine, catalog, metrics, settings), engine, catalog)


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, finish what was accepted, return. Raises OSError where the port is taken."""
    with open_parts(settings) as parts, _listen(settings) as listener:
        config = uvicorn.Config(
            parts.app,
            http="httptools",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(settings.drain_timeout_s) or None,
        )
        host, port = listener.getsockname()[:2]
        log.info(
            "serving",
            url=f"http://{host}:{port}",
            backbone=parts.engine.backbone.name,
            adapters=len(parts.catalog.entries()),
            threads=settings.threads,
            state=str(settings.state),
        )
        _Server(config).run([listener])


def zoo_folder() -> Path:
    """The shipped adapters: inside an installed package, or beside it in a checkout."""
    package = Path(lensmount_adapters.__file__).parent
    return package / "zoo" if (package / "zoo").is_dir() else package.parent / "zoo"


class _Server(uvicorn.Server):
    """uvicorn raises the signal again after its clean shutdown, and the process would not exit with 0."""

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

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.handle_exit(number, frame)


@contextmanager
def _listen(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.create_server((settings.host, settings.port), family=family, backlog=2048) as listener:
        yield listener


def _load(settings: Settings) -> Backbone:
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_backbone(settings.backbone, settings.weights, device, getattr(torch, settings.dtype))


def _swapper(settings: Settings, backbone: Backbone) -> Swapper:
    if settings.swap == "exact":
        return ExactSwapper(backbone)
    backbone.pristine = Reread(lambda: _load(settings).tensors)
    return SubtractingSwapper(backbone, settings.refresh_after)
