"""/jobs: submit, follow, cancel and retry jobs, and receive the files of workers."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from lensmount_adapters.data.split_advice import SplitOptions
from lensmount_service.errors import NotFound, ServiceError
from lensmount_service.jobs.bounds import refusal_of
from lensmount_service.jobs.files import CHECKPOINT, MEDIA_TYPES
from lensmount_service.jobs.log import log_lines
from lensmount_service.jobs.records import Job, JobRequest, State
from lensmount_service.routes.archives.request import predict_request
from lensmount_service.routes.context import Context, TenantContext, TenantTraining
from lensmount_service.routes.route import Route
from lensmount_service.store.precondition import Precondition
from lensmount_service.store.references import require_name
from lensmount_service.tracing.span import current
from lensmount_service.web.bodies import OpenFile, limited
from lensmount_service.web.job_schemas import (
    JobFileInfo,
    JobFileList,
    JobInfo,
    JobList,
    JobSubmission,
    PredictSubmission,
    Submission,
    event_data,
    job_info,
)
from lensmount_service.web.openapi import PROBLEMS, adapter_body, file_answer
from lensmount_service.web.preconditions import Expected, ExpectedAlone, refuse_conditions

POLL_S = 0.25  # how often a stream looks for new events
MAX_EVENTS = 1000

JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
LeaseToken = Annotated[str, Header(alias="Lensmount-Lease", pattern=r"^[0-9a-f]{32}$")]


router = APIRouter(route_class=Route, prefix="/jobs", tags=["jobs"], responses=PROBLEMS)


async def _job_of(context: Context, job_id: JobId) -> Job:
    return await asyncio.to_thread(context.training.jobs.get, job_id)


PathJob = Annotated[Job, Depends(_job_of)]


@router.post(
    "",
    status_code=201,
    responses={200: {"model": JobInfo, "description": "This Idempotency-Key has already created this job."}},
    summary="Train an adapter from a dataset, or label a dataset",
)
async def submit(
    context: Context,
    submission: Submission,
    response: Response,
    expected: Expected,
    key: Annotated[str | None, Header(alias="Idempotency-Key", pattern=r"^[!-~]{1,128}$")] = None,
) -> JobInfo:
    """The job is durable once this responds. The same Idempotency-Key with the same body returns the same job.

    If-Match and If-None-Match are about the job that this key made. A job of the kind `predict` labels the images of
    the dataset with adapters: the server works on it while nobody else asks, and its result is the file results.jsonl.
    """
    body = json.dumps(submission.model_dump(), sort_keys=True).encode()
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if isinstance(submission, PredictSubmission):
        predicting = await predict_request(context, submission, current().traceparent)
        job, created = await asyncio.to_thread(
            context.training.jobs.submit, predicting.request, key, digest, predicting.check, expected
        )
        context.predictable.set()
        response.status_code = 201 if created else 200
        response.headers["Location"] = f"/jobs/{job.id}"
        return await _info(context.training, job, response)
    require_name(submission.adapter)
    context.catalog.require_own_signature()  # now, and not after hours of training
    if submission.alias is not None:
        require_name(submission.alias, "alias")
    submission.require_alias()
    hyper_parameters = submission.hyper_parameters()
    traceparent = current().traceparent
    work = partial(_submit, context, submission, hyper_parameters, traceparent, key, digest, expected)
    searches = any(hyper_parameters[name] is not None for name in ("group_regex", "targets"))  # for some seconds
    job, created = await (context.searches.run(work, caller=context.caller) if searches else asyncio.to_thread(work))
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/jobs/{job.id}"
    return await _info(context.training, job, response)


def _submit(
    context: TenantContext,
    submission: JobSubmission,
    hyper_parameters: dict[str, Any],
    traceparent: str,
    key: str | None,
    digest: str,
    expected: Precondition,
) -> tuple[Job, bool]:
    training = context.training
    dataset = training.datasets.get(*submission.dataset_reference())
    pin = training.datasets.pin(dataset)
    request = JobRequest(
        dataset=pin,
        adapter=submission.adapter,
        alias=submission.alias,
        canary=submission.canary,
        backbone=context.engine.backbone.fingerprint,
        hyper_parameters=hyper_parameters,
        priority=submission.priority,
        max_attempts=submission.max_attempts,
        margin=submission.margin,
        force=submission.force,
        traceparent=traceparent,
    )

    refusal = refusal_of(
        hyper_parameters, dataset.classes, context.engine.backbone, context.settings.max_job_pixels
    ) or training.datasets.refusal(
        dataset,
        SplitOptions(
            hyper_parameters["seed"],
            hyper_parameters["validation_fraction"],
            hyper_parameters["test_fraction"],
            hyper_parameters["shots"],
        ),
        hyper_parameters["group_regex"],
    )

    def require_dataset(connection: sa.Connection) -> object:
        if refusal is not None:  # raised here, so that a known Idempotency-Key still gets its job
            raise refusal
        return training.datasets.require(connection, pin)

    return training.jobs.submit(request, key, digest, require_dataset, expected)


@router.get("", summary="Jobs, newest first")
async def list_jobs(
    context: Context,
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[str | None, Query(pattern=r"^[0-9a-f]{32}$")] = None,
) -> JobList:
    """`before` is the id of the last job of the previous page."""

    def read() -> list[JobInfo]:
        return _infos(context.training, context.training.jobs.list(state, limit, before))

    return JobList(jobs=await asyncio.to_thread(read))


@router.get("/{job_id}", summary="One job")
async def get_job(context: Context, job: PathJob, response: Response) -> JobInfo:
    """The header ETag stands for the job's state, attempt and request to stop, and not for its progress."""
    return await _info(context.training, job, response)


@router.delete("/{job_id}", status_code=202, summary="Cancel a job")
async def cancel(context: Context, job_id: JobId, response: Response, expected: ExpectedAlone) -> JobInfo:
    """A queued job ends at once; a running job ends at its next step."""
    job = await asyncio.to_thread(context.training.jobs.cancel, job_id, expected)
    return await _info(context.training, job, response)


@router.post("/{job_id}/retry", status_code=202, summary="Queue a failed or cancelled job again")
async def retry(context: Context, job_id: JobId, response: Response, expected: ExpectedAlone) -> JobInfo:
    """Refused if its dataset has been deleted meanwhile."""
    training = context.training

    def require_dataset(connection: sa.Connection, job: Job) -> object:
        return training.datasets.require(connection, job.request.dataset)

    job = await asyncio.to_thread(training.jobs.retry, job_id, require_dataset, expected, current().traceparent)
    context.predictable.set()
    return await _info(training, job, response)


@router.get("/{job_id}/events", response_class=EventSourceResponse, summary="Follow a job live")
async def events(
    context: Context,
    job: PathJob,
    last: Annotated[int, Header(alias="Last-Event-ID", ge=0, le=2**31 - 1)] = 0,
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events `state`, `epoch`, `log`, `progress` and `end`. The stream closes after `end`.

    It resumes after `Last-Event-ID`. `progress` has no id, because only the latest one matters.
    """
    training = context.training
    shown = None
    while not training.stopping.is_set():  # an open stream would hold up the shutdown
        try:
            job, new_events = await asyncio.to_thread(training.jobs.events, job.id, last, MAX_EVENTS)
        except ServiceError:  # the database is busy, so the stream tries again
            await asyncio.sleep(1)
            continue
        for event in new_events:
            yield ServerSentEvent(event=event.kind, data=event_data(event), id=str(event.number))
            last = event.number
        if job.state == "running" and job.progress not in (None, shown):
            shown = job.progress
            yield ServerSentEvent(event="progress", data=shown)
        if len(new_events) == MAX_EVENTS:
            continue
        if job.ended:
            yield ServerSentEvent(event="end", data={"state": job.state})
            return
        await asyncio.sleep(POLL_S)


@router.get("/{job_id}/log", response_class=PlainTextResponse, summary="A job's log as text")
async def get_log(context: Context, job_id: JobId) -> str:
    def read() -> str:
        text, last = "", 0
        while new_events := context.training.jobs.events(job_id, last)[1]:
            text, last = text + log_lines(new_events), new_events[-1].number
        return text

    return await asyncio.to_thread(read)


@router.get("/{job_id}/files", summary="The files of a job")
async def list_files(context: Context, job: PathJob) -> JobFileList:
    files = await asyncio.to_thread(context.training.files.list, job.id)
    return JobFileList(files=[JobFileInfo(name=f.name, size_bytes=f.size_bytes, digest=f.digest) for f in files])


@router.delete("/{job_id}/files", status_code=204, summary="Delete the files of a job")
async def delete_files(context: Context, job_id: JobId, expected: ExpectedAlone) -> None:
    """They count as bytes that its token stores. Refused while the job runs; what it published stays."""
    await asyncio.to_thread(context.training.files.delete, job_id, expected)


@router.get(
    "/{job_id}/files/{name}",
    response_class=Response,
    responses=file_answer(*sorted({kind.partition(";")[0] for kind in MEDIA_TYPES.values()})),
    summary="One file of a job",
)
async def get_file(
    context: Context,
    name: str,
    job: PathJob,
    lease: Annotated[str | None, Header(alias="Lensmount-Lease", pattern=r"^[0-9a-f]{32}$")] = None,
) -> OpenFile:
    if name == CHECKPOINT and lease is None:
        raise NotFound("found no public file of that name", code="file_not_found")
    headers = {
        "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "none",
    }
    file = await asyncio.to_thread(context.training.files.open, job.id, name)
    return OpenFile(file, MEDIA_TYPES.get(name, "application/octet-stream"), headers)


@router.put(
    "/{job_id}/files/{name}", status_code=204, openapi_extra=adapter_body(), summary="For workers: upload a file"
)
async def put_file(
    context: Context, job_id: JobId, name: str, request: Request, lease: LeaseToken, expected: Expected
) -> None:
    """Send the raw bytes as the body. Refused with `lease_lost` if another worker now has the job."""
    refuse_conditions(expected, "a worker's lease protects the files of its job")
    body = limited(request, context.settings.max_job_file_bytes)
    await context.training.files.receive(job_id, lease, name, body)


async def _info(training: TenantTraining, job: Job, response: Response) -> JobInfo:
    response.headers["ETag"] = f'"{job.tag}"'
    return (await asyncio.to_thread(_infos, training, [job]))[0]


def _infos(training: TenantTraining, jobs: Sequence[Job]) -> list[JobInfo]:
    """The jobs with their histories. Queued jobs also have the number of workers that could claim them."""
    histories = training.jobs.histories(jobs)

    def waits_for_worker(job: Job) -> bool:
        return job.state == "queued" and job.request.kind == "train"

    backbones = {job.request.backbone for job in jobs if waits_for_worker(job)}
    workers = {backbone: training.workers.count(backbone) for backbone in backbones}
    return [
        job_info(job, histories[job.id], workers[job.request.backbone] if waits_for_worker(job) else None)
        for job in jobs
    ]
