"""What the handlers share: one frozen record per application, kept in `app.state.context`."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from lensmount_service.engine.engine import Engine
from lensmount_service.jobs.files import JobFiles
from lensmount_service.jobs.publishing import Publisher
from lensmount_service.jobs.table import JobTable
from lensmount_service.jobs.worker_table import WorkerTable
from lensmount_service.metrics import Metrics
from lensmount_service.review.queue import ReviewQueue
from lensmount_service.settings import Settings
from lensmount_service.stopping import Stopping
from lensmount_service.store.bounded_pool import BoundedPool
from lensmount_service.store.catalog import Catalog
from lensmount_service.store.datasets import DatasetStore
from lensmount_service.store.exports import Exports
from lensmount_service.store.pools import Pools
from lensmount_service.web.image_hosts import ImageHosts


@dataclass(frozen=True, slots=True)
class Training:
    """What turns datasets into adapters. `stopping` is set when the server is told to stop."""

    datasets: DatasetStore
    jobs: JobTable
    files: JobFiles
    publisher: Publisher
    workers: WorkerTable
    pools: Pools
    stopping: Stopping = field(default_factory=Stopping)


@dataclass(frozen=True, slots=True)
class AppContext:
    """The parts of one server that its handlers use.

    `decoders` reads images. `admissions` checks uploaded archives, one after the other, so that serving keeps the
    other cores. `searches` submits the jobs whose expression for groups is searched in a dataset. `explanations`
    computes one after the other, and gives way to predictions. `thumbnails` reads images of datasets, so that a page of
    them does not keep predictions from the decoders. `choices` chooses the images that a person labels next.
    `image_hosts` fetches images that tasks of Label Studio name.
    """

    engine: Engine
    catalog: Catalog
    metrics: Metrics
    settings: Settings
    training: Training
    exports: Exports
    decoders: Executor
    admissions: Executor
    searches: BoundedPool
    explanations: BoundedPool
    reviews: ReviewQueue
    thumbnails: BoundedPool
    choices: BoundedPool
    image_hosts: ImageHosts


async def _context_of(request: Request) -> AppContext:  # async, because FastAPI runs plain functions in a thread
    context: AppContext = request.app.state.context
    return context


Context = Annotated[AppContext, Depends(_context_of)]
