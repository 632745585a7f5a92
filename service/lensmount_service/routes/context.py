"""What the handlers share: the parts of an application, and what the tenant of a request sees of them."""

from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import dataclass, field, fields, replace
from typing import Annotated

from fastapi import Depends, Query, Request

from lensmount_service.access.identity import Identity
from lensmount_service.access.quotas import Meter
from lensmount_service.archive.outputs import KeptOutputs
from lensmount_service.engine.engine import Engine, IntegrityReport
from lensmount_service.engine.fair_pool import FairPool
from lensmount_service.jobs.files import JobFiles
from lensmount_service.jobs.publishing import Publisher
from lensmount_service.jobs.records import DatasetPin
from lensmount_service.jobs.table import JobTable
from lensmount_service.jobs.worker_table import WorkerTable
from lensmount_service.metrics import Metrics
from lensmount_service.monitoring.usage import Counted, Usage
from lensmount_service.pools.answered_images import AnsweredImages
from lensmount_service.pools.pools import Pools
from lensmount_service.review.queue import ReviewQueue
from lensmount_service.rollouts.choice import Choice
from lensmount_service.rollouts.evidence import Evidence, Sample
from lensmount_service.rollouts.keeper import Keeper
from lensmount_service.rollouts.pairs import Pairs
from lensmount_service.rollouts.shadowing import Shadowing
from lensmount_service.settings import Settings
from lensmount_service.sources.adapter_sources import AdapterSources
from lensmount_service.sources.image_hosts import ImageHosts
from lensmount_service.stopping import Stopping
from lensmount_service.store.bounded_pool import BoundedPool
from lensmount_service.store.catalog import Catalog, Sender, Snapshot
from lensmount_service.store.datasets import DatasetStore
from lensmount_service.store.exports import Exports
from lensmount_service.store.health import StoreHealth
from lensmount_service.store.keys import PUBLIC, is_public, key_of
from lensmount_service.store.shares import Shares
from lensmount_service.tenants.adapters import TenantAdapters
from lensmount_service.tenants.datasets import TenantDatasets
from lensmount_service.tenants.jobs import TenantJobFiles, TenantJobs, TenantPublisher
from lensmount_service.tenants.pools import TenantPools
from lensmount_service.tenants.queues import CallerQueues
from lensmount_service.tenants.space import Space
from lensmount_service.web.shared import Shared

MAX_CALLERS = 1024  # whose views are kept in memory
_LEASE = re.compile(r"[0-9a-f]{32}")


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
class TenantTraining:
    """What the tenant of a request sees of `Training`."""

    datasets: TenantDatasets
    jobs: TenantJobs
    files: TenantJobFiles
    publisher: TenantPublisher
    workers: WorkerTable
    pools: TenantPools
    stopping: threading.Event


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one server that know nothing of tenants.

    `decoders` reads images, in turns. `admissions` checks uploaded archives, one after the other, so that serving keeps
    the other cores. `searches` submits the jobs whose expression for groups is searched in a dataset. `explanations`
    computes one after the other, and gives way to predictions. `thumbnails` reads images of datasets, so that a page of
    them does not keep predictions from the decoders. `choices` chooses the images that a person labels next.
    `image_hosts` fetches images that tasks of Label Studio name, `sources` adapters that a URL names.
    `answered` has the images of the latest answers.
    `choice` says which version of an alias with a rollout answers, and `evidence` has what came of it. `keeper` ends
    rollouts by their rules, and `pairs` computes images with labels.
    `shadowing` says which answers are compared with those of another version.
    `outputs` is what the trunk gave for images that may be asked again. `predictable` is set when a job may wait that
    labels a dataset.
    `integrity` and `metrics_page` are computed once for all who ask at a time.
    """

    engine: Engine
    meter: Meter
    metrics: Metrics
    settings: Settings
    exports: Exports
    decoders: FairPool
    admissions: FairPool
    searches: BoundedPool
    explanations: BoundedPool
    reviews: ReviewQueue
    thumbnails: BoundedPool
    choices: BoundedPool
    image_hosts: ImageHosts
    sources: AdapterSources
    store: StoreHealth
    integrity: Shared[IntegrityReport]
    metrics_page: Shared[bytes]
    answered: AnsweredImages
    usage: Usage
    choice: Choice
    evidence: Evidence
    keeper: Keeper
    pairs: Pairs
    shadowing: Shadowing
    outputs: KeptOutputs
    predictable: asyncio.Event


@dataclass(frozen=True, slots=True)
class TenantContext(Parts):
    """What the tenant of a request sees of a server: own names and public ones, never a key."""

    identity: Identity
    queues: CallerQueues
    catalog: TenantAdapters
    training: TenantTraining

    @property
    def caller(self) -> str:
        """Whose turns in queues a request takes."""
        return self.identity.key

    def label(self, adapter: str) -> str:
        """The value of the label `adapter` in the metrics, which only operators read."""
        return self.metrics.label(adapter if is_public(adapter) else key_of(self.identity.tenant, adapter))

    def counted(self, adapter: str, snapshot: Snapshot | None = None) -> Counted:
        """Where a request of the tenant for an adapter that is there is counted. `snapshot` is what answers it."""
        use = self.usage.of(self.identity.tenant, adapter)
        sample = None if snapshot is None or is_public(adapter) else self._sample(snapshot)
        return Counted(self.metrics, self.label(adapter), use, self.usage.clock, sample)

    def _sample(self, snapshot: Snapshot) -> Sample | None:
        """Where a request is counted for the rollout that chose the version; None if none did."""
        version, rollout = snapshot.version, snapshot.version.rollout
        if rollout is None or snapshot.instead_of is not None:
            return None
        if rollout.canary is not None and snapshot.place is None:
            return None
        return self.evidence.sample(rollout, rollout.side_of(version.version), snapshot.place)

    def tenant_of(self, name: str) -> str:
        """The tenant that answers show with a name: who shares public/NAME is not told."""
        return PUBLIC if is_public(name) else self.identity.tenant


@dataclass(frozen=True, slots=True)
class AppContext(Parts):
    """The parts of one server, for all tenants: these stores have keys where requests have names."""

    catalog: Catalog
    training: Training
    shares: Shares
    _views: dict[Identity, TenantContext] = field(default_factory=dict, init=False, repr=False, compare=False)

    def seen_by(self, identity: Identity) -> TenantContext:
        """What a caller sees. The views of the last callers are kept."""
        known = self._views.get(identity)
        if known is None:
            if len(self._views) >= MAX_CALLERS:
                self._views.clear()
            known = self._views[identity] = self.view(identity)
        return known

    def view(self, identity: Identity, job_data: DatasetPin | None = None) -> TenantContext:
        """A new view, for a worker with the dataset of its job."""
        space, training = Space(identity, self.shares, job_data), self.training
        jobs = TenantJobs(training.jobs, space)
        queues = CallerQueues(self.engine, self.decoders, self.admissions, self.meter, identity)
        return TenantContext(
            **{part.name: getattr(self, part.name) for part in fields(Parts)},
            identity=identity,
            queues=queues,
            catalog=TenantAdapters(self.catalog, space, Sender(identity.actor, queues.caller, queues.charge)),
            training=TenantTraining(
                TenantDatasets(training.datasets, space),
                jobs,
                TenantJobFiles(training.files, jobs),
                TenantPublisher(training.publisher, jobs),
                training.workers,
                TenantPools(training.pools, space),
                training.stopping,
            ),
        )


def caller_of(request: Request) -> str:
    """Whose share of the queue a request uses: its token's or, without an identity, its address's."""
    identity: Identity | None = getattr(request.state, "identity", None)
    if identity is not None:
        return identity.key
    return request.client.host if request.client is not None else ""


async def app_of(request: Request) -> AppContext:  # async, because FastAPI runs plain functions in a thread
    context: AppContext = request.app.state.context
    return context


def context_of(request: Request) -> TenantContext:
    """What the caller of a request sees."""
    app: AppContext = request.app.state.context
    return app.seen_by(request.state.identity)


async def _context_of(request: Request) -> TenantContext:
    """A worker, whose token is an operator's, acts for the tenant of the job that it holds."""
    identity: Identity = request.state.identity
    lease = request.headers.get("lensmount-lease")
    if lease is not None and identity.is_operator and _LEASE.fullmatch(lease):
        app: AppContext = request.app.state.context
        holder = await asyncio.to_thread(app.training.jobs.holder_of, lease)
        if holder is not None:
            tenant, data = holder
            return app.view(replace(identity, tenant=tenant), data)
    return context_of(request)


Public = Annotated[bool, Query(description="List what is shared as public/NAME instead of what is one's own")]
Context = Annotated[TenantContext, Depends(_context_of)]
Server = Annotated[AppContext, Depends(app_of)]
