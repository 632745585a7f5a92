"""Builds all parts of a server from its settings."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import torch
from fastapi import FastAPI

import lensmount_adapters
from lensmount_adapters import Backbone, ExactSwapper, Limits, SubtractingSwapper, load_backbone
from lensmount_adapters.backbone.pristine import Reread
from lensmount_adapters.data.dataset_archive import DatasetLimits
from lensmount_adapters.data.labels import MAX_FILE_BYTES
from lensmount_adapters.dtypes import TF32
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.inputs.images import ImageLimits
from lensmount_adapters.inputs.rules import VolumePreprocessing
from lensmount_adapters.machine import choose_device, device_name, free_memory
from lensmount_adapters.programs.choose import choose_executor, on_device
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.programs.int8 import available, require_nncf
from lensmount_adapters.programs.live_graphs import live_graphs
from lensmount_adapters.runners.costs import CostBook
from lensmount_adapters.runners.merged import MergedRunner
from lensmount_adapters.runners.runner import Runner
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.trunks.calibration import drawn_calibration, folder_calibration
from lensmount_adapters.trunks.int8 import Int8Trunks
from lensmount_adapters.trunks.record import Int8Use
from lensmount_adapters.zips.reader import ArchiveLimits
from lensmount_client._version import __version__
from lensmount_service.access.tokens import TokenStore
from lensmount_service.app import PROBES, create_app
from lensmount_service.backup.filling import fill_store
from lensmount_service.engine.canary import Canary
from lensmount_service.engine.engine import Engine
from lensmount_service.errors import Unauthorized, Unavailable
from lensmount_service.gc import collect
from lensmount_service.jobs.files import JobFiles
from lensmount_service.jobs.publishing import Publisher
from lensmount_service.jobs.shared_files import SharedJobFiles
from lensmount_service.jobs.table import JobTable, jobs_using
from lensmount_service.jobs.worker_table import WorkerTable
from lensmount_service.metrics import Metrics
from lensmount_service.oip.inference import Inference
from lensmount_service.oip.rest import router as open_inference
from lensmount_service.pools.pools import PoolLimits, Pools
from lensmount_service.repair.scrubber import Scrubber, ScrubBudget
from lensmount_service.repair.shelves import open_shelves
from lensmount_service.repair.start import require_usable
from lensmount_service.routes.context import Training
from lensmount_service.settings import Settings
from lensmount_service.startup import Tell, say_nothing
from lensmount_service.state_folder import in_use
from lensmount_service.store.blobs import Blobs, BlobStore
from lensmount_service.store.catalog import Catalog
from lensmount_service.store.database import Database
from lensmount_service.store.datasets import DatasetStore
from lensmount_service.store.registry import Registry
from lensmount_service.store.shares import Shares
from lensmount_service.store.signatures import Signatures
from lensmount_service.store.uploads import Uploads
from lensmount_service.tenants.holdings import Holdings
from lensmount_service.tenants.zoo import share_zoo
from lensmount_service.tracing.middleware import trace
from lensmount_service.tracing.opening import open_tracer
from lensmount_service.twins.huggingface import router as hugging_face
from lensmount_service.twins.sagemaker import router as sagemaker
from lensmount_service.twins.vllm import router as vllm

if TYPE_CHECKING:
    from lensmount_service.store.remote.objects import Objects

log = structlog.get_logger(__name__)

PROTOCOLS = (open_inference, vllm, hugging_face, sagemaker)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one server."""

    app: FastAPI
    engine: Engine
    catalog: Catalog
    training: Training


@contextmanager
def open_parts(settings: Settings, backbone: Backbone | None = None, tell: Tell = say_nothing) -> Iterator[Parts]:
    """Open backbone, registry, blobs, catalog, engine and app. The engine starts with the app's lifespan."""
    torch.set_num_threads(settings.threads)
    require_usable(settings.state, settings.database_url(), blobs_elsewhere=settings.blobs is not None)
    _require_token(settings)
    if backbone is None:
        tell(f"Loading the backbone {settings.backbone} ...")
        backbone = _load(settings)
    tell("Preparing the programs for this machine; the first start compiles them ...")
    runner = _runner(settings, backbone)
    metrics = Metrics(__version__, backbone.name, backbone.fingerprint)
    limits = Limits(max_file_bytes=settings.max_adapter_bytes)
    with (
        open_tracer("lensmount") as tracer,
        in_use(settings.state),
        contextlib.closing(Database(settings.database_url())) as database,
    ):
        holdings = open_holdings(settings, database)
        registry = Registry(database, holdings.charge)
        blobs = open_blobs(settings)
        engine = _open_engine(settings, backbone, runner, metrics)
        catalog = Catalog(
            backbone, registry, blobs, limits, settings.cache_bytes, metrics, runner, settings.pinned_names()
        )
        catalog.signatures = open_signatures(settings)
        canary = Canary(engine)
        catalog.watch(engine.quarantine, lambda adapter, sender: canary.check(adapter, sender.caller, sender.charge))
        jobs = JobTable(
            database,
            settings.lease_s,
            settings.max_queued_jobs,
            charge=holdings.charge_job,
            charge_files=holdings.charge,
        )
        files = open_job_files(settings, jobs)
        datasets = open_datasets(settings, database)
        pools = open_pools(settings, database)
        local = BlobStore(settings.state / "blobs")
        collect(settings.state, registry, local, jobs, datasets, pools, retention=settings.retention())
        if settings.blobs is not None:
            fill_store(
                settings.state, settings.blobs.get_secret_value(), (registry, blobs, local), datasets, pools, files
            )
        shares = Shares(database)
        if settings.zoo:
            tell("Mounting the adapters of the zoo ...")
            catalog.load_zoo(zoo_folder())
            share_zoo(catalog, shares, zoo_folder())
        publisher = Publisher(database, registry, jobs, files)
        training = Training(datasets, jobs, files, publisher, WorkerTable(database), pools)
        scrubber = _open_scrubber(settings, database, blobs, engine, metrics)
        app = create_app(engine, catalog, metrics, settings, training, shares, scrubber, PROTOCOLS)
        trace(app, tracer, PROBES)
        app.state.inference = Inference(app.state.context, app.state.meter)
        try:
            yield Parts(app, engine, catalog, training)
        finally:
            backbone.keep_clones()  # so that the backbone's owner can mount adapters in place again


def _open_engine(settings: Settings, backbone: Backbone, runner: Runner, metrics: Metrics) -> Engine:
    engine = Engine(
        backbone,
        runner,
        metrics,
        _max_batch(settings, backbone),
        settings.max_queue,
        max_turn_s=settings.max_turn_s,
        batch_window_ms=settings.batch_window_ms,
    )
    engine.quarantine.limit = settings.quarantine_after
    return engine


def _open_scrubber(settings: Settings, database: Database, blobs: Blobs, engine: Engine, metrics: Metrics) -> Scrubber:
    """It starts with the app's lifespan, and gives way to the images that wait for the engine."""
    shelves = open_shelves(settings.state, blobs, open_objects(settings))
    budget = ScrubBudget(settings.scrub_bytes_per_s, settings.scrub_every_s)
    return Scrubber(database, shelves, engine.quarantine, metrics, budget, lambda: engine.waiting > 0)


def _require_token(settings: Settings) -> None:
    """Raises Unauthorized if other machines could call a server that asks nobody for a token."""
    if settings.is_loopback or settings.token is not None or settings.oidc_issuer is not None:
        return
    with contextlib.closing(Database(settings.database_url())) as database:
        if TokenStore(database).list():
            return
    command = f"lensmount tokens create admin --scopes admin --state {shlex.quote(str(settings.state))}"
    raise Unauthorized(
        f"found the address {settings.host} and no token, expected a token for any address except loopback. "
        f"Fix: {'LENSMOUNT_DATABASE=... ' if settings.database else ''}{command} makes the first one; or set "
        "LENSMOUNT_TOKEN, or leave --host at 127.0.0.1"
    )


def open_objects(settings: Settings) -> Objects | None:
    """The object store of `--blobs`, if there is one. Raises Unavailable."""
    if settings.blobs is None:
        return None
    try:
        from lensmount_service.store.remote.objects import Objects  # its library is an extra
    except ModuleNotFoundError as error:
        raise Unavailable(
            f'adapter files in an object store need the package {error.name}. Fix: pip install "lensmount[s3]"',
            code="store_unavailable",
        ) from error
    return Objects(settings.blobs.get_secret_value())


def open_blobs(settings: Settings) -> Blobs:
    local, objects = BlobStore(settings.state / "blobs"), open_objects(settings)
    if objects is None:
        return local
    from lensmount_service.store.remote.remote_blobs import RemoteBlobs

    return RemoteBlobs(objects, local, settings.blob_bytes)


def open_job_files(settings: Settings, jobs: JobTable) -> JobFiles:
    objects = open_objects(settings)
    return JobFiles(settings.state / "jobs", jobs, None if objects is None else SharedJobFiles(objects))


def open_datasets(settings: Settings, database: Database) -> DatasetStore:
    return DatasetStore(
        database,
        settings.state / "datasets",
        ArchiveLimits(
            max_entries=settings.max_dataset_files + 1,  # plus the labels file
            max_total_bytes=settings.max_dataset_bytes,
            max_entry_bytes=max(MAX_FILE_BYTES, settings.max_image_bytes),
        ),
        DatasetLimits(
            max_classes=settings.max_dataset_classes,
            max_unreadable_fraction=settings.max_unreadable_fraction,
            image=ImageLimits(settings.max_image_bytes, settings.max_pixels),
        ),
        in_use=jobs_using,
        charge=open_holdings(settings, database).charge,
        objects=open_objects(settings),
    )


def open_pools(settings: Settings, database: Database) -> Pools:
    limits = PoolLimits(
        settings.max_pool_bytes,
        settings.max_dataset_files,
        image=ImageLimits(settings.max_image_bytes, settings.max_pixels),
    )
    charge = open_holdings(settings, database).charge
    return Pools(database, settings.state / "pools", limits, charge, open_objects(settings))


def open_signatures(settings: Settings) -> Signatures:
    """Raises Unavailable if a key cannot be read, or if the library for signatures is not installed."""
    try:
        return Signatures(settings.trusted_keys, settings.signing_key, required=settings.require_signatures)
    except ModuleNotFoundError as error:
        raise Unavailable(
            f'signatures of adapters need the package {error.name}. Fix: pip install "lensmount[signing]"',
            code="store_unavailable",
        ) from error


def open_holdings(settings: Settings, database: Database) -> Holdings:
    return Holdings(database, Uploads(settings.state / "datasets" / "uploads"))


def zoo_folder() -> Path:
    """The folder of shipped adapters: inside an installed package, next to the package in a checkout."""
    package = Path(lensmount_adapters.__file__).parent
    return package / "zoo" if (package / "zoo").is_dir() else package.parent / "zoo"


def _load(settings: Settings, device: str | None = None) -> Backbone:
    device = choose_device(device or settings.device)
    return load_backbone(settings.backbone, settings.weights, device, getattr(torch, settings.dtype))


def _max_batch(settings: Settings, backbone: Backbone) -> int:
    """The largest batch. Each slice of a volume counts as one image."""
    rule = backbone.preprocessing
    return max(1, settings.max_batch // rule.depth) if isinstance(rule, VolumePreprocessing) else settings.max_batch


def _hot_bytes(settings: Settings, backbone: Backbone) -> int:
    """What was asked for; on a GPU otherwise half of the memory that the backbone leaves free, if that is more."""
    free = None if "hot_bytes" in settings.model_fields_set else free_memory(backbone.device)
    return settings.hot_bytes if free is None else max(settings.hot_bytes, free // 2)


def _runner(settings: Settings, backbone: Backbone) -> Runner:
    if settings.swap == "subtract":
        backbone.pristine = Reread(
            lambda: _load(settings, "cpu").tensors
        )  # a GPU without room for clones has no room for this copy either
        return MergedRunner(backbone, SubtractingSwapper(backbone, settings.refresh_after))
    backbone.keep_clones()
    if settings.executor == "merged":
        on_device(settings.precision, backbone.device)
        if backbone.device.type == "cuda":
            backbone.compute = live_graphs(
                backbone.module, backbone.zeros(1), backbone.dtype, _max_batch(settings, backbone)
            )
        return MergedRunner(backbone, ExactSwapper(backbone))
    programs = settings.state / "programs"
    max_batch = _max_batch(settings, backbone)
    name = "openvino" if settings.precision == "int8" else settings.executor
    executor = choose_executor(name, settings.arithmetic, backbone.device, settings.threads, programs, max_batch)
    book = CostBook(
        programs,
        f"{device_name(backbone.device)} {executor.name} {executor.dtype} {settings.threads} {torch.__version__}"
        + f" {TF32}" * (settings.arithmetic == TF32),
    )
    int8 = _int8(settings, executor)
    try:
        runner = SegmentRunner(
            backbone,
            executor,
            max_batch=max_batch,
            hot_bytes=_hot_bytes(settings, backbone),
            book=book,
            int8=int8,
        )
    except BackboneError as error:
        log.warning("the backbone cannot be cut into segments, so adapters are merged in place", reason=str(error))
        return MergedRunner(backbone, ExactSwapper(backbone), str(error))
    backbone.keep_nothing()
    return runner


def _int8(settings: Settings, executor: Executor) -> Int8Use | None:
    """Which adapters get an int8 trunk. With `auto` nobody misses it, so it is left out where it cannot be had."""
    asked = settings.precision == "int8"
    offered = settings.int8 and settings.precision == "auto" and settings.dtype == "float32" and available()
    if asked:
        require_nncf()
    elif not offered or executor.name != "openvino":
        return None
    folder = settings.int8_calibration
    calibration = drawn_calibration() if folder is None else folder_calibration(folder)
    return Int8Use(Int8Trunks(calibration, settings.state / "programs"), asked, settings.int8_branches)
