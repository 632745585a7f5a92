"""/integrations/labelstudio/{adapter}: an adapter as an ML backend of Label Studio, which adds /predict and others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request

from lensmount_adapters.adapter.manifest import SegmentationHead
from lensmount_adapters.inputs.images import ImageLimits
from lensmount_adapters.inputs.prepare import InputLimits, PreparedInput, prepare
from lensmount_service.access.guard import GuardedRoute
from lensmount_service.errors import NotFound, RequestInvalid, VersionDeleted
from lensmount_service.pools.rows import Answered, PoolImage
from lensmount_service.routes.context import Context, TenantContext
from lensmount_service.routes.labelling.answers import offer
from lensmount_service.routes.labelling.feedback import check_allowed, pool_of
from lensmount_service.routes.snapshots import keys_of, snapshot_of
from lensmount_service.store.catalog import Snapshot
from lensmount_service.store.references import Reference, parse_references
from lensmount_service.store.registry import Version
from lensmount_service.web.deadline import deadline
from lensmount_service.web.json_body import read_json
from lensmount_service.web.labelstudio import (
    Control,
    Event,
    PredictRequest,
    Task,
    control_of,
    image_of,
    prediction,
    url_of,
)
from lensmount_service.web.openapi import PROBLEMS
from lensmount_service.web.pixels import stated_pixels
from lensmount_service.web.preconditions import Expected

AT_ONCE = 4  # tasks of one request
T = TypeVar("T")
_AS_TASKS = "send the JSON that Label Studio sends"

router = APIRouter(route_class=GuardedRoute, prefix="/integrations/labelstudio", tags=["labelling"], responses=PROBLEMS)


@router.get("/{adapter}/health", summary="Label Studio: whether the adapter can answer")
async def health(context: Context, adapter: str) -> dict[str, Any]:
    await _resolve(context, adapter)
    return {"status": "UP", "model_class": "Lensmount"}


@router.post("/{adapter}/setup", summary="Label Studio: connect a project")
async def setup(context: Context, adapter: str) -> dict[str, Any]:
    """The version is the adapter's digest, so that Label Studio keeps predictions of different files apart."""
    return {"model_version": (await _resolve(context, adapter)).version.digest}


@router.post("/{adapter}/predict", summary="Label Studio: predictions for tasks")
async def predict(context: Context, adapter: str, request: Request) -> dict[str, Any]:
    """Images of tasks are `data:` URLs, or on one of the hosts in LENSMOUNT_LABELSTUDIO_HOSTS.

    A few tasks are computed at a time, so that a project of 1,000 tasks leaves room for other requests. All of them
    have the time of one request.
    """
    asked = await read_json(request, PredictRequest, context.settings.max_request_bytes, _AS_TASKS)
    (reference,) = parse_references(adapter, 1)
    snapshot = _require_labels(await snapshot_of(context, reference, partial(keys_of, request)))
    control = control_of(asked.label_config)
    expires_at = time.perf_counter() + context.settings.request_timeout_s
    queues, room = context.queues, context.settings.max_queue
    at_once = min(AT_ONCE, len(asked.tasks), queues.share(room))
    turns = asyncio.Semaphore(at_once)

    async def predicted(task: Task) -> dict[str, Any]:
        async with turns:
            return await _predicted(context, snapshot, control, task, expires_at)

    stated = asyncio.to_thread(_stated_pixels, asked.tasks, control.image_key) if queues.limits_pixels else None
    pixels = 0 if stated is None else await stated
    async with deadline(request, context.settings.request_timeout_s):
        with queues.queued(at_once, room), queues.paying(pixels):
            if not context.engine.runner.ready(snapshot.adapter):
                await asyncio.to_thread(context.engine.runner.prepare, snapshot.adapter)
            results = await together([predicted(task) for task in asked.tasks])
    return {"results": results, "model_version": snapshot.version.digest}


@router.post("/{adapter}/webhook", status_code=201, summary="Label Studio: an annotation becomes feedback")
async def webhook(context: Context, adapter: str, request: Request, expected: Expected) -> dict[str, Any]:
    """A created or updated annotation is kept in the pool NAME-feedback, as `POST /feedback` does. Nothing is trained:
    `POST /datasets/NAME-feedback/versions` and `POST /jobs` do so when someone asks. It corrects the version whose
    prediction the annotator saw, if the annotation says that, and otherwise the one that {adapter} means.
    """
    event = await read_json(request, Event, context.settings.max_request_bytes, _AS_TASKS)
    snapshot = await _resolve(context, adapter)
    if event.action not in ("ANNOTATION_CREATED", "ANNOTATION_UPDATED"):
        return {"status": "ignored"}
    check_allowed(context)
    control = control_of(event.project.label_config)
    label = event.choice(control)
    version = await asyncio.to_thread(_seen, context, snapshot.version, event.seen)
    name = pool_of(version, label)
    answered = Answered(f"{version.name}@{version.version} {version.digest}")

    async with deadline(request, context.settings.request_timeout_s):
        fetched = await _fetched(context, event.task, control.image_key)

    def keep() -> PoolImage:
        data = fetched or image_of(event.task, control.image_key)
        context.queues.charge(stated_pixels(data))
        kept = context.training.pools.correct(name, data, label, event.who, answered, expected)
        offer(context, version, kept.digest, data, label)
        return kept

    kept = await context.thumbnails.run(keep, caller=context.caller)
    return {"status": "ok", "dataset": name, "digest": kept.digest}


async def _predicted(
    context: TenantContext, snapshot: Snapshot, control: Control, task: Task, expires_at: float
) -> dict[str, Any]:
    settings, rule = context.settings, snapshot.adapter.manifest.preprocessing
    limits = InputLimits(image=ImageLimits(settings.max_image_bytes, settings.max_pixels))
    fetched = await _fetched(context, task, control.image_key)

    def read() -> PreparedInput:
        if fetched is None:
            return prepare(image_of(task, control.image_key), {rule}, limits)  # it is charged already
        context.queues.charge(stated_pixels(fetched))
        return prepare(fetched, {rule}, limits)

    prepared = await asyncio.wrap_future(context.queues.decode(read))
    (queued,) = context.queues.compute([(snapshot.adapter, prepared.inputs[rule])], expires_at)
    answer = await asyncio.wrap_future(queued)
    return prediction(control, snapshot.version.manifest.labels, answer.scores.tolist(), snapshot.version.digest)


def _stated_pixels(tasks: Sequence[Task], key: str) -> int:
    """Of the images in the tasks themselves. Those that are fetched are charged one by one. Raises RequestInvalid."""
    return sum(stated_pixels(image_of(task, key)) for task in tasks if url_of(task, key).startswith("data:"))


async def _fetched(context: TenantContext, task: Task, key: str) -> bytes | None:
    """The image of a task that is on another server; None for one in the task itself, and if no host is listed."""
    url = url_of(task, key)
    return await context.image_hosts.fetch(url) if context.image_hosts and not url.startswith("data:") else None


async def together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all. If one fails or the caller is cancelled, the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _resolve(context: TenantContext, adapter: str) -> Snapshot:
    """The version that an alias means, whatever its rollout."""
    (reference,) = parse_references(adapter, 1)
    return _require_labels(await asyncio.to_thread(context.catalog.resolve, reference))


def _seen(context: TenantContext, asked: Version, digest: str | None) -> Version:
    """The version with this digest, of the adapter that is asked for; otherwise the one that is asked for."""
    if digest is None or digest == asked.digest:
        return asked
    try:
        found = context.catalog.version(Reference(asked.name, digest=digest))
    except (NotFound, VersionDeleted):
        return asked
    return replace(found, alias=asked.alias, rollout=asked.rollout)


def _require_labels(snapshot: Snapshot) -> Snapshot:
    if isinstance(snapshot.adapter.manifest.head, SegmentationHead):
        raise RequestInvalid(
            f"found {snapshot.version.name}, which gives masks, expected an adapter that gives labels. "
            "Fix: choose another adapter"
        )
    return snapshot
