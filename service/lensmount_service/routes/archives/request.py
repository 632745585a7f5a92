"""What a client asks of a job that labels a dataset, checked before it is queued."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from lensmount_service.errors import RequestInvalid
from lensmount_service.jobs.records import JobRequest
from lensmount_service.routes.context import TenantContext
from lensmount_service.store.keys import PUBLIC
from lensmount_service.store.references import Reference
from lensmount_service.web.job_schemas import PredictSubmission, dataset_reference


@dataclass(frozen=True, slots=True)
class Asked:
    """An adapter of a job: what was asked for, and the version that answers all images."""

    asked: str
    name: str
    version: int
    digest: str

    @property
    def reference(self) -> Reference:
        return Reference(self.name, self.version)


@dataclass(frozen=True, slots=True)
class Predicting:
    """The job, and the check in the transaction that queues it."""

    request: JobRequest
    check: Callable[[sa.Connection], object]


async def predict_request(context: TenantContext, submission: PredictSubmission, traceparent: str) -> Predicting:
    """Raises NotFound, VersionDeleted, Unusable, or RequestInvalid for more work than one job may have."""
    return await asyncio.to_thread(_request, context, submission, traceparent)


def _request(context: TenantContext, submission: PredictSubmission, traceparent: str) -> Predicting:
    most = context.settings.max_adapters_per_request
    if len(submission.adapters) > most:
        raise RequestInvalid(f"found {len(submission.adapters)} adapters in one job, expected at most {most}")
    dataset = context.training.datasets.get(*dataset_reference(submission.dataset))
    pin = context.training.datasets.pin(dataset)
    asked, pixels = [], 0
    for text in submission.adapters:
        found = context.catalog.resolve(Reference.parse(text))
        height, width = found.adapter.manifest.preprocessing.input_shape[-2:]
        pixels += dataset.images * height * width
        asked.append(Asked(text, found.version.name, found.version.version, found.version.digest))
    if pixels > context.settings.max_job_pixels:
        raise RequestInvalid(
            f"found a job of {pixels:.2g} pixels (images x adapters x the size of an input), expected at most "
            f"{context.settings.max_job_pixels:.2g}. Fix: ask for fewer adapters; the server's operator may raise "
            "LENSMOUNT_MAX_JOB_PIXELS"
        )
    request = JobRequest(
        dataset=pin,
        adapter=asked[0].name.removeprefix(f"{PUBLIC}/"),
        backbone=context.engine.backbone.fingerprint,
        hyper_parameters={"adapters": [asdict(each) for each in asked]},
        priority=submission.priority,
        max_attempts=submission.max_attempts,
        kind="predict",
        traceparent=traceparent,
    )
    return Predicting(request, lambda connection: context.training.datasets.require(connection, pin))


def adapters_of(options: dict[str, Any]) -> list[Asked]:
    """The adapters of a queued job."""
    return [Asked(**each) for each in options["adapters"]]
