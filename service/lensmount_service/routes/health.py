"""Is it alive, is it ready, what are its limits, are its weights what they were, and its metrics."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from lensmount_adapters.inputs.images import FORMATS
from lensmount_adapters.inputs.volumes import FORMATS as VOLUME_FORMATS
from lensmount_service.engine.engine import Engine
from lensmount_service.errors import Unavailable
from lensmount_service.metrics import Metrics
from lensmount_service.settings import Settings
from lensmount_service.store.catalog import Catalog
from lensmount_service.web.openapi import PROBLEMS
from lensmount_service.web.schemas import Integrity


def health_router(engine: Engine, catalog: Catalog, metrics: Metrics, settings: Settings) -> APIRouter:
    limits = catalog.limits
    router = APIRouter(tags=["health"], responses={401: PROBLEMS[401], 503: PROBLEMS[503]})

    @router.get("/health/live", summary="The process answers")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/health/ready", summary="Predictions are taken")
    async def ready() -> dict[str, str]:
        if not engine.accepting:
            raise Unavailable("the engine takes no work: starting or shutting down", retry_after_s=5)
        return {"status": "ok", "backbone": engine.backbone.name}

    @router.get("/limits", summary="Every limit")
    async def show_limits() -> dict[str, Any]:
        return {
            "image_formats": list(FORMATS),
            "engine": engine.runner.describe(),
            "max_image_bytes": settings.max_image_bytes,
            "max_pixels": settings.max_pixels,
            "volume_formats": list(VOLUME_FORMATS),
            "max_volume_bytes": settings.max_volume_bytes,
            "max_voxels": settings.max_voxels,
            "max_files": settings.max_files,
            "max_adapters_per_request": settings.max_adapters_per_request,
            "max_request_bytes": settings.max_request_bytes,
            "max_queue": settings.max_queue,
            "max_batch": settings.max_batch,
            "batch_window_ms": settings.batch_window_ms,
            "request_timeout_s": settings.request_timeout_s,
            "max_queued_jobs": settings.max_queued_jobs,
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
        }

    @router.get("/integrity", summary="Hash the resident weights against their start")
    async def integrity() -> Integrity:
        """Returns the backbone to its base, hashes every tensor and compares with the hashes taken at start."""
        report = await asyncio.wrap_future(engine.integrity())
        return Integrity(
            ok=report.ok,
            fingerprint=engine.backbone.fingerprint,
            tensors=report.tensors,
            changed=list(report.changed[:100]),
            seconds=round(report.seconds, 4),
        )

    @router.get("/metrics", response_class=Response, summary="Prometheus metrics")
    async def show_metrics() -> Response:
        metrics.show_resident(await asyncio.to_thread(catalog.tiers), catalog.pinned())
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return router
