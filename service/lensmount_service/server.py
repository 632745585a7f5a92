"""Open everything a server needs, serve until told to stop, close everything."""

from __future__ import annotations

import contextlib
import gc
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
from lensmount_adapters import Backbone, ExactSwapper, Limits, SubtractingSwapper, load_backbone
from lensmount_adapters.adapter.manifest import VolumePreprocessing
from lensmount_adapters.backbone.pristine import Reread
from lensmount_adapters.data.dataset_archive import DatasetLimits
from lensmount_adapters.data.labels import MAX_FILE_BYTES
from lensmount_adapters.data.zip_reader import ArchiveLimits
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.inputs.images import ImageLimits
from lensmount_adapters.machine import device_name
from lensmount_adapters.programs.executor import choose_executor
from lensmount_adapters.runners.costs import CostBook, Line
from lensmount_adapters.runners.runner import MergedRunner, Runner
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_client._version import __version__
from lensmount_service.app import Training, create_app
from lensmount_service.engine.engine import Engine
from lensmount_service.errors import Unavailable
from lensmount_service.gc import Collected, collect
from lensmount_service.jobs.files import JobFiles
from lensmount_service.jobs.publishing import Publisher
from lensmount_service.jobs.table import JobTable, jobs_using
from lensmount_service.metrics import Metrics
from lensmount_service.settings import Settings
from lensmount_service.startup import BACKLOG, Tell, own_url, port_taken, say_nothing
from lensmount_service.store.blobs import Blobs, BlobStore
from lensmount_service.store.catalog import Catalog
from lensmount_service.store.database import Database
from lensmount_service.store.datasets import DatasetStore
from lensmount_service.store.references import Reference
from lensmount_service.store.registry import Registry
from lensmount_service.supervisor import WorkerProcess

log = structlog.get_logger(__name__)

KEEP_ALIVE_S = 75  # longer than clients keep idle connections (httpx: 5 s), so that none is closed under a request


@dataclass(frozen=True, slots=True)
class Parts:
    """What one server holds."""

    app: FastAPI
    engine: Engine
    catalog: Catalog
    training: Training


@contextmanager
def open_parts(settings: Settings, backbone: Backbone | None = None, tell: Tell = say_nothing) -> Iterator[Parts]:
    """Backbone, registry, blobs, catalog, engine and app; the engine starts with the app's lifespan."""
    torch.set_num_threads(settings.threads)
    if backbone is None:
        tell(f"Loading the backbone {settings.backbone} ...")
        backbone = _load(settings)
    tell("Preparing how to compute on this machine, which compiles at the first start ...")
    runner = _runner(settings, backbone)
    metrics = Metrics(__version__, backbone.name, backbone.fingerprint)
    limits = Limits(max_file_bytes=settings.max_adapter_bytes)
    with contextlib.closing(Database(settings.database_url())) as database:
        registry = Registry(database)
        blobs = _blobs(settings)
        catalog = Catalog(
            backbone, registry, blobs, limits, settings.cache_bytes, metrics, runner, settings.pinned_names()
        )
        engine = Engine(
            backbone,
            runner,
            metrics,
            _max_batch(settings, backbone),
            settings.max_queue,
            max_turn_s=settings.max_turn_s,
            batch_window_ms=settings.batch_window_ms,
        )
        jobs = JobTable(database, settings.lease_s, settings.max_queued_jobs)
        files = JobFiles(settings.state / "jobs", jobs)
        datasets = _datasets(settings, database)
        collect(settings.state, registry, BlobStore(settings.state / "blobs"), jobs, datasets)
        if settings.zoo:
            tell("Mounting the adapters of the zoo ...")
            catalog.load_zoo(zoo_folder())
        training = Training(datasets, jobs, files, Publisher(database, registry, jobs, files))
        try:
            yield Parts(create_app(engine, catalog, metrics, settings, training), engine, catalog, training)
        finally:
            backbone.keep_clones()  # whoever gave it may mount adapters in place again


def serve(
    settings: Settings,
    backbone: Backbone | None = None,
    bound: socket.socket | None = None,
    tell: Tell = say_nothing,
) -> None:
    """Serve until SIGINT or SIGTERM, finish what was accepted, return. Raises OSError where the port is taken.

    `bound` is the socket where the caller has taken the port already; `tell` hears what goes on.
    """
    with (
        contextlib.nullcontext(bound) if bound is not None else port_taken(settings) as listener,
        open_parts(settings, backbone, tell) as parts,
    ):
        listener.listen(BACKLOG)
        config = uvicorn.Config(
            parts.app,
            http="httptools",
            ws="none",
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
            **parts.engine.runner.describe(),
            state=str(settings.state),
        )
        gc.freeze()
        gc.enable()  # `lensmount serve` imports without it
        with WorkerProcess(settings, own_url(host, port)) if settings.with_worker else contextlib.nullcontext():
            try:
                _Server(config, parts.training.stopping, tell, own_url(host, port)).run([listener])
            finally:
                gc.unfreeze()  # else Python's last collection skips it all, and triton reports its types as leaked


def _blobs(settings: Settings) -> Blobs:
    local = BlobStore(settings.state / "blobs")
    if settings.blobs is None:
        return local
    try:
        from lensmount_service.store.remote_blobs import RemoteBlobs  # its library is an extra
    except ModuleNotFoundError as error:
        raise Unavailable(
            f'adapter files in an object store need {error.name}. Cure: pip install "lensmount[s3]"',
            code="store_unavailable",
        ) from error
    return RemoteBlobs(settings.blobs.get_secret_value(), local, settings.blob_bytes)


def _datasets(settings: Settings, database: Database) -> DatasetStore:
    return DatasetStore(
        database,
        settings.state / "datasets",
        ArchiveLimits(
            max_entries=settings.max_dataset_files + 1,  # with its file of labels
            max_total_bytes=settings.max_dataset_bytes,
            max_entry_bytes=max(MAX_FILE_BYTES, settings.max_image_bytes),
        ),
        DatasetLimits(
            max_classes=settings.max_dataset_classes,
            max_unreadable_fraction=settings.max_unreadable_fraction,
            image=ImageLimits(settings.max_image_bytes, settings.max_pixels),
        ),
        in_use=jobs_using,
    )


def collect_garbage(settings: Settings, older_than_s: float) -> Collected:
    """`lensmount gc`: what `collect` does, on a state folder that a server may be using. Raises as it does."""
    with contextlib.closing(Database(settings.database_url())) as database:
        registry, jobs = Registry(database), JobTable(database)
        with contextlib.closing(_datasets(settings, database)) as datasets:
            return collect(settings.state, registry, _blobs(settings), jobs, datasets, older_than_s)


def calibrate(settings: Settings) -> Calibration:
    """`lensmount calibrate`: choose the executor and measure the ways to compute anew, for every adapter registered."""
    for remembered in (settings.state / "programs").glob("executor-*.json"):
        remembered.unlink(missing_ok=True)
    with open_parts(settings) as parts:
        runner = parts.engine.runner
        if isinstance(runner, SegmentRunner):
            runner.book.forget()
            for entry in parts.catalog.entries():
                if parts.catalog.status(entry.latest) == "ready":
                    runner.prepare(parts.catalog.resolve(Reference(entry.latest.name)).adapter)
            runner.settle()
        lines = dict(runner.book.lines) if isinstance(runner, SegmentRunner) else {}
        runner.close()
        return Calibration(runner.describe(), lines)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the server will compute on this machine, and what the branch costs in each way."""

    engine: dict[str, str]
    lines: dict[str, Line]


def zoo_folder() -> Path:
    """The shipped adapters: inside an installed package, or beside it in a checkout."""
    package = Path(lensmount_adapters.__file__).parent
    return package / "zoo" if (package / "zoo").is_dir() else package.parent / "zoo"


class _Server(uvicorn.Server):
    """uvicorn raises the signal again after its clean shutdown, and the process would not exit with 0."""

    def __init__(self, config: uvicorn.Config, stopping: threading.Event, tell: Tell, url: str) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._tell = tell
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell(f"Ready at {self._url}: open it in a browser, {self._url}/docs shows the API. Ctrl-C stops it.")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._tell("Stopping: what was accepted is finished first. Ctrl-C again ends at once.")
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

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping.set()  # ends the event streams, which would last as long as their jobs
        self.handle_exit(number, frame)


def _load(settings: Settings, device: str | None = None) -> Backbone:
    device = device or settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_backbone(settings.backbone, settings.weights, device, getattr(torch, settings.dtype))


def _max_batch(settings: Settings, backbone: Backbone) -> int:
    """Of volumes, as many as have no more slices than that."""
    rule = backbone.preprocessing
    return max(1, settings.max_batch // rule.depth) if isinstance(rule, VolumePreprocessing) else settings.max_batch


def _runner(settings: Settings, backbone: Backbone) -> Runner:
    if settings.swap == "subtract":
        backbone.pristine = Reread(lambda: _load(settings, "cpu").tensors)  # a GPU without room for clones has none now
        return MergedRunner(backbone, SubtractingSwapper(backbone, settings.refresh_after))
    backbone.keep_clones()
    if settings.executor == "merged":
        return MergedRunner(backbone, ExactSwapper(backbone))
    precision = settings.precision if settings.dtype == "float32" else settings.dtype
    programs = settings.state / "programs"
    executor = choose_executor(settings.executor, precision, backbone.device, settings.threads, programs)
    book = CostBook(
        programs,
        f"{device_name(backbone.device)} {executor.name} {executor.dtype} {settings.threads} {torch.__version__}",
    )
    try:
        most = _max_batch(settings, backbone)
        runner = SegmentRunner(backbone, executor, max_batch=most, hot_bytes=settings.hot_bytes, book=book)
    except BackboneError as error:
        log.warning("backbone not cut into segments, so adapters are merged in place", reason=str(error))
        return MergedRunner(backbone, ExactSwapper(backbone), str(error))
    backbone.keep_nothing()
    return runner
