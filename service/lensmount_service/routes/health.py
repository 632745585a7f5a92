"""/health, /limits, /integrity and /metrics: whether the server is alive, ready and unchanged, and its figures."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from lensmount_adapters.inputs.images import FORMATS
from lensmount_adapters.inputs.volumes import FORMATS as VOLUME_FORMATS
from lensmount_service.access.guard import GuardedRoute
from lensmount_service.errors import Unavailable
from lensmount_service.routes.context import AppContext, Server
from lensmount_service.store.health import StoreState
from lensmount_service.web.openapi import PROBLEMS, file_answer
from lensmount_service.web.schemas import Integrity

router = APIRouter(route_class=GuardedRoute, tags=["health"], responses=PROBLEMS)


@router.get("/health/live", summary="Whether the process responds")
async def live(context: Server) -> dict[str, str]:
    """503 once the device answers no more: then the process ends by itself, and has to be started again."""
    if context.engine.lost:
        raise context.engine.lost_error()
    return {"status": "ok"}


@router.get("/health/ready", summary="Whether predictions are accepted")
async def ready(context: Server, request: Request) -> dict[str, str | int]:
    """503 if the store cannot be read. `degraded`: it cannot be written; predictions are answered, uploads fail.

    `quarantined` counts the adapters that failed too often; the others are served.
    """
    store = await require_ready(context)
    trouble: str | None = request.app.state.audit.trouble
    engine = context.engine
    quarantined = len(engine.quarantine)
    answer: dict[str, str | int] = {"status": "ok", "backbone": engine.backbone.name, "quarantined": quarantined}
    if trouble:
        answer["audit"] = trouble
    return answer if store.degraded is None else {**answer, "status": "degraded", "store": store.degraded}


async def require_ready(context: AppContext) -> StoreState:
    """The state of the store. Raises Unavailable if predictions are not accepted."""
    if context.training.stopping.is_set() or not context.engine.accepting:
        raise Unavailable("the engine accepts no work because the server is starting or shutting down", retry_after_s=5)
    store = await asyncio.to_thread(context.store.look)
    if store.fault is not None:
        raise Unavailable(f"the store cannot be read: {store.fault}", code="store_unavailable", retry_after_s=5)
    return store


@router.get("/limits", summary="Every limit")
async def show_limits(context: Server) -> dict[str, Any]:
    settings, limits = context.settings, context.catalog.limits
    return {
        "image_formats": list(FORMATS),
        "engine": context.engine.runner.describe(),
        "max_image_bytes": settings.max_image_bytes,
        "max_pixels": settings.max_pixels,
        "max_request_pixels": settings.max_request_pixels,
        "volume_formats": list(VOLUME_FORMATS),
        "max_volume_bytes": settings.max_volume_bytes,
        "max_voxels": settings.max_voxels,
        "integrity_age_s": settings.integrity_age_s,
        "max_connections": settings.max_connections,
        "head_timeout_s": settings.head_timeout_s,
        "body_timeout_s": settings.body_timeout_s,
        "write_timeout_s": settings.write_timeout_s,
        "max_files": settings.max_files,
        "max_adapters_per_request": settings.max_adapters_per_request,
        "max_request_bytes": settings.max_request_bytes,
        "max_held_bytes": settings.held_bytes(),
        "max_json_bytes": settings.max_json_bytes,
        "max_queue": settings.max_queue,
        "max_batch": settings.max_batch,
        "batch_window_ms": settings.batch_window_ms,
        "request_timeout_s": settings.request_timeout_s,
        "quarantine_after": settings.quarantine_after,
        "max_queued_jobs": settings.max_queued_jobs,
        "max_job_pixels": settings.max_job_pixels,
        "max_job_file_bytes": settings.max_job_file_bytes,
        "max_adapter_bytes": limits.max_file_bytes,
        "max_adapter_header_bytes": limits.max_header_bytes,
        "max_tensors": limits.max_tensors,
        "max_rank": limits.max_rank,
        "max_classes": limits.max_classes,
        "max_delta_ratio": limits.max_delta_ratio,
        "max_dataset_bytes": settings.max_dataset_bytes,
        "max_dataset_files": settings.max_dataset_files,
        "max_dataset_classes": settings.max_dataset_classes,
        "max_upload_chunk_bytes": settings.max_upload_chunk_bytes,
        "max_unreadable_fraction": settings.max_unreadable_fraction,
        "feedback": settings.feedback == "on",
    }


@router.get("/integrity", summary="Compare the resident weights with their hashes at start")
async def integrity(context: Server) -> Integrity:
    """Restores the backbone's base weights, hashes every tensor and compares the hashes with those taken at start.

    A check in progress answers all who ask meanwhile, and predictions are computed in between. A result is given again
    until it is `integrity_age_s` (GET /limits) old; `age_s` is the time since then.
    """
    report, age_s = await context.integrity.get()
    return Integrity(
        ok=report.ok,
        fingerprint=context.engine.backbone.fingerprint,
        tensors=report.tensors,
        changed=list(report.changed[:100]),
        seconds=round(report.seconds, 4),
        age_s=round(age_s, 3),
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses=file_answer("text/plain"),
    summary="Prometheus metrics",
)
async def show_metrics(context: Server) -> Response:
    page, _ = await context.metrics_page.get()
    return Response(page, media_type=CONTENT_TYPE_LATEST)
