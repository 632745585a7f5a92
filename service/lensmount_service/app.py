"""Assembles the parts into one FastAPI application. Nothing here makes decisions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import structlog
from fastapi import APIRouter, FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import Scope

from lensmount_client._version import __version__
from lensmount_service.access.audit import AuditLog, Record
from lensmount_service.access.authenticator import Authenticator, Verifier
from lensmount_service.access.guard import require_policies
from lensmount_service.access.public_paths import PublicPaths
from lensmount_service.access.quotas import Meter
from lensmount_service.access.tokens import TokenStore
from lensmount_service.archive.disk import DiskOutputs
from lensmount_service.archive.memory import MemoryOutputs
from lensmount_service.archive.outputs import KeptOutputs
from lensmount_service.auditing import Auditing
from lensmount_service.engine.engine import Engine
from lensmount_service.engine.fair_pool import FairPool
from lensmount_service.errors import ServiceError, Unavailable
from lensmount_service.jobs.table import JobTable
from lensmount_service.metrics import Metrics
from lensmount_service.middleware import AccessMiddleware
from lensmount_service.monitoring.readings import Readings
from lensmount_service.monitoring.usage import Usage
from lensmount_service.pools.answered_images import AnsweredImages
from lensmount_service.rate_limits import RateLimits
from lensmount_service.repair.scrubber import Scrubber
from lensmount_service.review.queue import ReviewQueue
from lensmount_service.rollouts.choice import Choice
from lensmount_service.rollouts.evidence import Evidence
from lensmount_service.rollouts.keeper import Keeper
from lensmount_service.rollouts.pairs import Pairs
from lensmount_service.rollouts.ready import Ready
from lensmount_service.rollouts.rules import Finding
from lensmount_service.rollouts.shadowing import Shadowing
from lensmount_service.routes import (
    adapters,
    aliases,
    datasets,
    health,
    imports,
    jobs,
    rollouts,
    sharing,
    whoami,
)
from lensmount_service.routes import audit as audit_routes
from lensmount_service.routes import tokens as token_routes
from lensmount_service.routes.archives.jobs import PredictJobs
from lensmount_service.routes.context import AppContext, Training
from lensmount_service.routes.decoding import input_limits
from lensmount_service.routes.docs import DESCRIPTION as DESCRIPTION_PATH
from lensmount_service.routes.docs import FILES as DOCS_FILES
from lensmount_service.routes.docs import docs_router
from lensmount_service.routes.drafts.draft import draft_router
from lensmount_service.routes.explain import explain_router
from lensmount_service.routes.labelling import feedback, labels, labelstudio, pools, reviews
from lensmount_service.routes.labelling.next_images import next_router
from lensmount_service.routes.page import FILES as PAGE_FILES
from lensmount_service.routes.page import page_router
from lensmount_service.routes.predict import Predictor, predict_router
from lensmount_service.settings import Settings
from lensmount_service.sources.adapter_sources import AdapterSources
from lensmount_service.sources.image_hosts import ImageHosts
from lensmount_service.store.aliases import Running
from lensmount_service.store.bounded_pool import BoundedPool
from lensmount_service.store.catalog import Catalog
from lensmount_service.store.exports import Exports
from lensmount_service.store.health import StoreHealth
from lensmount_service.store.keys import name_of, tenant_of
from lensmount_service.store.references import Reference
from lensmount_service.store.shares import Shares
from lensmount_service.tenants.holdings import Holdings
from lensmount_service.turnstile import Turns, Turnstile
from lensmount_service.warming import warmed
from lensmount_service.web import problems
from lensmount_service.web.held_bytes import HeldBytes, HeldBytesMiddleware
from lensmount_service.web.judgement import judged
from lensmount_service.web.openapi import DescribedApp
from lensmount_service.web.problems import CODES, NEVER_SENT
from lensmount_service.web.shared import Shared

log = structlog.get_logger(__name__)

PROBES = frozenset({"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/ping"})
OPEN_PATHS = frozenset(
    {
        *(*PROBES, DESCRIPTION_PATH),
        *DOCS_FILES,
        *PAGE_FILES,
    }
)  # served without a token

NO_TELEMETRY: TelemetryConfig = {"auto_configure": False, "tracing": False, "metrics": False, "logs": False}
"""FastAPI would record paths, and the values that it refuses, for any provider of the process; tracing/ does not."""

MAX_EXPLANATIONS = 8  # that wait, the one in progress included
MAX_SEARCHES = 16  # jobs with an expression for groups that wait for a search, those in progress included
MAX_THUMBNAILS = 256  # images of datasets that wait to be read, for pages that show a review
MAX_CHOICES = 16  # requests for the next images to label that wait, the one in progress included
REAP_S = 5.0  # seconds between two checks for jobs whose last worker is gone

_ROOMS = (
    *(
        adapters,
        aliases,
        rollouts,
        imports,
        datasets,
        reviews,
        labels,
        pools,
        sharing,
        feedback,
        labelstudio,
        jobs,
        health,
    ),
    *(token_routes, whoami, audit_routes),
)

DESCRIPTION = """One frozen backbone stays resident; small adapters are switched on and off with bit-exact results.

`POST /predict?adapter=malaria` labels an image, `PUT /adapters/{name}` uploads an adapter. Errors are
application/problem+json with a stable `code`. For research use only."""


def create_app(
    engine: Engine,
    catalog: Catalog,
    metrics: Metrics,
    settings: Settings,
    training: Training,
    shares: Shares,
    scrubber: Scrubber,
    protocols: Sequence[APIRouter],
) -> FastAPI:
    """The application. Its lifespan starts the engine and, on shutdown, lets it finish accepted work.

    `protocols` are routers above ours, whose routes find the parts in `app.state.context`.
    """
    context = _context(engine, catalog, metrics, settings, training, shares, scrubber)
    tokens = TokenStore(training.jobs.database)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with engine, audit, scrubber, context.keeper, context.pairs:
            await asyncio.to_thread(lambda: context.reviews.remove_orphans(training.datasets.digests()))
            predicting = PredictJobs(context, app.state.predictor)
            async with warmed(catalog, engine, training.stopping), predicting.running():
                reaping = asyncio.create_task(_reap(training.jobs, context.predictable))
                yield
                reaping.cancel()
            training.stopping.set()
            training.datasets.close()
            await asyncio.to_thread(engine.stop, training.stopping.left_s(settings.drain_timeout_s))
        await asyncio.to_thread(_close, context)

    audit = AuditLog(settings.state / "audit", settings.audit_bytes)
    context.keeper.tell = partial(_note, audit)
    first_token = settings.token.get_secret_value() if settings.token else None
    verifiers = _verifiers(settings)
    authenticator = Authenticator(tokens, first_token, verifiers, on_loopback=settings.is_loopback)
    held = HeldBytes(settings.held_bytes())
    app = _empty_app(lifespan, authenticator, held, context.meter)
    app.add_middleware(Auditing, audit=audit)
    app.state.context, app.state.refused = context, metrics.refused
    app.state.predictor = Predictor(context)
    for code in CODES.keys() - NEVER_SENT:  # from 0, so that the first one is an increase
        metrics.refusals.labels(code, str(CODES[code]))
    app.state.audit, app.state.held, app.state.scrubber = audit, held, scrubber
    app.state.holdings = Holdings(training.jobs.database, training.datasets.uploads)
    app.state.tokens, app.state.has_first_token = tokens, bool(first_token or verifiers)
    app.state.worker_token, app.state.authenticator = authenticator.worker_token, authenticator
    routers = _routers(context, protocols)
    require_policies(routers, OPEN_PATHS)
    for router in routers:  # their routes are built once; include_router builds them again, at an app's first request
        app.router.routes.extend(router.routes)
    return app


def _routers(context: AppContext, protocols: Sequence[APIRouter]) -> list[APIRouter]:
    return [
        predict_router(context),
        explain_router(context),
        next_router(context),
        draft_router(context),
        *(room.router for room in _ROOMS),
        docs_router(),
        page_router(),
        *protocols,
    ]


def _verifiers(settings: Settings) -> tuple[Verifier, ...]:
    """Who recognises bearer tokens of others. Raises Unavailable if its library is not installed."""
    if settings.oidc_issuer is None:
        return ()
    try:
        from lensmount_service.access.oidc import DEFAULT_SCOPES, OidcVerifier, Provider  # its library is an extra
    except ModuleNotFoundError as error:
        raise Unavailable(
            f'LENSMOUNT_OIDC_ISSUER needs the package {error.name}. Fix: pip install "lensmount[oidc]"',
            code="identity_unavailable",
        ) from error
    provider = Provider(
        settings.oidc_issuer,
        settings.oidc_audience,
        settings.oidc_jwks_url,
        settings.oidc_scopes_claim,
        DEFAULT_SCOPES if settings.oidc_scopes is None else settings.oidc_scopes,
        settings.oidc_tenant_claim,
        settings.oidc_tenant,
    )
    return (OidcVerifier(provider),)


def _empty_app(
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
    authenticator: Authenticator,
    held: HeldBytes,
    meter: Meter,
) -> FastAPI:
    """The application without routes: who may call it, and how errors are answered."""
    app = DescribedApp(
        title="Lensmount",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,
        redirect_slashes=False,  # a redirect is in no description of a route, and some clients lose the body by it
    )
    app.add_middleware(PublicPaths)
    app.state.meter = meter
    app.add_middleware(RateLimits, meter=meter)
    app.add_middleware(HeldBytesMiddleware, held=held)
    app.add_middleware(AccessMiddleware, authenticator=authenticator, open_paths=OPEN_PATHS)
    app.state.turns = Turns()
    app.add_middleware(Turnstile, turns=app.state.turns, is_prediction=_is_prediction, probes=PROBES)
    problems.install(app)
    return app


def _is_prediction(scope: Scope) -> bool:
    path: str = scope["path"]
    is_one = path.endswith(("/predict", "/infer")) or path == "/invocations" or path.startswith("/hf/")
    return scope["method"] == "POST" and is_one


def _context(
    engine: Engine,
    catalog: Catalog,
    metrics: Metrics,
    settings: Settings,
    training: Training,
    shares: Shares,
    scrubber: Scrubber,
) -> AppContext:
    database = training.jobs.database
    store = StoreHealth(database, settings.state, database.read_each_table, trouble=lambda: scrubber.report.trouble)
    readings = Readings(metrics, engine, catalog, training.jobs, training.workers, store, settings.state)
    engine.stopping = training.stopping.is_set
    evidence, ready, database = Evidence(), Ready(engine.runner), training.jobs.database
    choice = Choice(ready, evidence)
    keeper = Keeper(database, evidence, metrics, partial(_prepare, choice, catalog))
    return AppContext(
        engine=engine,
        meter=Meter(),
        metrics=metrics,
        settings=settings,
        exports=Exports(settings.state / "exports", catalog, settings.export_bytes),
        decoders=FairPool("decode", max(2, settings.threads)),
        admissions=FairPool("admit", 1),
        searches=BoundedPool("jobs with a group_regex", threads=2, most=MAX_SEARCHES),
        explanations=BoundedPool("explanations", threads=1, most=MAX_EXPLANATIONS, background=True),
        reviews=ReviewQueue(settings.state / "reviews"),
        thumbnails=BoundedPool("images of datasets", threads=1, most=MAX_THUMBNAILS),
        choices=BoundedPool("choices of images", threads=1, most=MAX_CHOICES),
        image_hosts=ImageHosts(settings.labelstudio_hosts, settings.max_image_bytes),
        sources=AdapterSources(settings.fetch_hosts, settings.max_adapter_bytes),
        catalog=catalog,
        training=training,
        shares=shares,
        store=store,
        integrity=Shared(lambda: asyncio.wrap_future(engine.integrity()), settings.integrity_age_s),
        metrics_page=Shared(lambda: asyncio.to_thread(readings.page)),
        usage=Usage(),
        choice=choice,
        evidence=evidence,
        keeper=keeper,
        pairs=Pairs(engine, catalog, keeper.rows, evidence, input_limits(settings)),
        shadowing=Shadowing(engine.runner, ready, evidence, judged),
        outputs=_open_outputs(engine, settings, metrics),
        predictable=asyncio.Event(),
        answered=AnsweredImages(
            settings.feedback_kept_bytes, settings.feedback_kept_s if settings.feedback == "on" else 0.0
        ),
    )


def _open_outputs(engine: Engine, settings: Settings, metrics: Metrics) -> KeptOutputs:
    disk = DiskOutputs(settings.state / "trunk", settings.trunk_disk_bytes)
    return KeptOutputs(engine.runner, MemoryOutputs(settings.trunk_cache_bytes), disk, metrics)


def _close(context: AppContext) -> None:
    context.exports.close()
    context.decoders.shutdown(cancel_futures=True)
    context.admissions.shutdown(cancel_futures=True)
    context.searches.close()
    context.explanations.close()
    context.thumbnails.close()
    context.choices.close()
    context.choice.ready.close()
    context.reviews.close()


def _prepare(choice: Choice, catalog: Catalog, running: Sequence[Running]) -> None:
    """Make the canaries of these rollouts ready on this server, in the background."""
    for each in running:
        if each.rollout.canary is not None:
            number = each.rollout.canary.version
            choice.ready.begin(each.rollout.id, number, partial(catalog.resolve, Reference(each.name, number)))


def _note(audit: AuditLog, running: Running, findings: Sequence[Finding]) -> None:
    """Write into the audit log that this server took a rollout back; the event of the rollout says why."""
    rules = ", ".join(sorted({finding.rule for finding in findings}))
    target = f"/adapters/{name_of(running.name)}/rollouts/{running.alias}"
    who = "server", tenant_of(running.name)
    audit.add(Record(round(time.time(), 3), *who, f"rollback by rule: {rules}", target, None, running.rollout.id, 200))


async def _reap(table: JobTable, claimable: asyncio.Event) -> None:
    while True:
        await asyncio.sleep(REAP_S)
        try:
            if await asyncio.to_thread(table.reap):
                claimable.set()
        except ServiceError as error:
            log.warning("jobs not checked", reason=str(error))
