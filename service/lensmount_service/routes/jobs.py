"""/jobs: submit, follow, cancel, retry; and what workers send."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator
from typing import Annotated, Protocol

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from lensmount_service.errors import NotFound, ServiceError
from lensmount_service.jobs.files import CHECKPOINT, MEDIA_TYPES, JobFiles
from lensmount_service.jobs.log import log_lines
from lensmount_service.jobs.records import DatasetPin, Job, JobRequest, State
from lensmount_service.jobs.table import JobTable
from lensmount_service.jobs.worker_table import WorkerTable
from lensmount_service.settings import Settings
from lensmount_service.store.references import require_name
from lensmount_service.web.bodies import limited
from lensmount_service.web.job_schemas import (
    JobFileInfo,
    JobFileList,
    JobInfo,
    JobList,
    JobSubmission,
    event_data,
    job_info,
)
from lensmount_service.web.openapi import PROBLEMS, adapter_body


class Pinned(Protocol):
    """A dataset version as its store tells of it."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def digest(self) -> str: ...


class Datasets(Protocol):
    """What jobs need of the dataset store."""

    def get(self, name: str, version: int | None = None) -> Pinned: ...
    def require(self, connection: sa.Connection, name: str, version: int) -> object: ...


POLL_S = 0.25  # how often a stream looks for news
MAX_EVENTS = 1000

JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
LeaseToken = Annotated[str, Header(alias="Lensmount-Lease", pattern=r"^[0-9a-f]{32}$")]


def jobs_router(
    jobs: JobTable,
    files: JobFiles,
    datasets: Datasets,
    fingerprint: str,
    settings: Settings,
    stopping: threading.Event,
) -> APIRouter:
    """`stopping` ends the streams, which would else hold a server's shutdown up."""
    router = APIRouter(prefix="/jobs", tags=["jobs"], responses=PROBLEMS)
    workers = WorkerTable(jobs.database)

    async def informed(job: Job) -> JobInfo:
        histories = await asyncio.to_thread(jobs.histories, [job.id])
        waits = job.state == "queued"
        seen = await asyncio.to_thread(workers.count, job.request.backbone) if waits else None
        return job_info(job, histories[job.id], seen)

    async def found(job_id: JobId) -> Job:
        return await asyncio.to_thread(jobs.get, job_id)

    @router.post(
        "",
        status_code=201,
        responses={200: {"model": JobInfo, "description": "This Idempotency-Key has made this job already."}},
        summary="Train an adapter from a dataset",
    )
    async def submit(
        submission: JobSubmission,
        response: Response,
        key: Annotated[str | None, Header(alias="Idempotency-Key", pattern=r"^[!-~]{1,128}$")] = None,
    ) -> JobInfo:
        """The job is durable when this answers. The same Idempotency-Key with the same body gives the same job."""
        require_name(submission.adapter)
        if submission.alias is not None:
            require_name(submission.alias, "alias")
        body = json.dumps(submission.model_dump(), sort_keys=True).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"

        hyper_parameters = submission.hyper_parameters()

        def make() -> tuple[Job, bool]:
            pin = _pin(datasets, *submission.dataset_reference())
            request = JobRequest(
                dataset=pin,
                adapter=submission.adapter,
                alias=submission.alias,
                backbone=fingerprint,
                hyper_parameters=hyper_parameters,
                priority=submission.priority,
                max_attempts=submission.max_attempts,
                margin=submission.margin,
                force=submission.force,
            )
            return jobs.submit(
                request, key, digest, check=lambda connection: datasets.require(connection, pin.name, pin.version)
            )

        job, created = await asyncio.to_thread(make)
        response.status_code = 201 if created else 200
        response.headers["Location"] = f"/jobs/{job.id}"
        return await informed(job)

    @router.get("", summary="Jobs, newest first")
    async def list_jobs(
        state: State | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        before: Annotated[str | None, Query(pattern=r"^[0-9a-f]{32}$")] = None,
    ) -> JobList:
        """`before` is the id of the last job of the page before."""

        def read() -> list[JobInfo]:
            page = jobs.list(state, limit, before)
            histories = jobs.histories([job.id for job in page])
            seen = {each: workers.count(each) for each in {j.request.backbone for j in page if j.state == "queued"}}
            return [
                job_info(job, histories[job.id], seen.get(job.request.backbone) if job.state == "queued" else None)
                for job in page
            ]

        return JobList(jobs=await asyncio.to_thread(read))

    @router.get("/{job_id}", summary="One job")
    async def get_job(job: Job = Depends(found)) -> JobInfo:
        return await informed(job)

    @router.delete("/{job_id}", status_code=202, summary="Cancel a job")
    async def cancel(job_id: JobId) -> JobInfo:
        """A waiting job ends at once, a running one at its next step."""
        return await informed(await asyncio.to_thread(jobs.cancel, job_id))

    @router.post("/{job_id}/retry", status_code=202, summary="Let a failed or cancelled job wait again")
    async def retry(job_id: JobId) -> JobInfo:
        return await informed(await asyncio.to_thread(jobs.retry, job_id))

    @router.get("/{job_id}/events", response_class=EventSourceResponse, summary="A job as it happens")
    async def events(
        job: Job = Depends(found),
        last: Annotated[int, Header(alias="Last-Event-ID", ge=0, le=2**31 - 1)] = 0,
    ) -> AsyncIterator[ServerSentEvent]:
        """Server-sent events `state`, `epoch`, `log`, `progress` and `end`, after which the stream closes.

        Goes on after `Last-Event-ID`; `progress` has no id, for only the latest counts.
        """
        shown = None
        while not stopping.is_set():
            try:
                job, news = await asyncio.to_thread(jobs.events, job.id, last, MAX_EVENTS)
            except ServiceError:  # the database is busy; the stream is patient
                await asyncio.sleep(1)
                continue
            for event in news:
                yield ServerSentEvent(event=event.kind, data=event_data(event), id=str(event.number))
                last = event.number
            if job.state == "running" and job.progress not in (None, shown):
                shown = job.progress
                yield ServerSentEvent(event="progress", data=shown)
            if len(news) == MAX_EVENTS:
                continue
            if job.ended:
                yield ServerSentEvent(event="end", data={"state": job.state})
                return
            await asyncio.sleep(POLL_S)

    @router.get("/{job_id}/log", response_class=PlainTextResponse, summary="A job's log as text")
    async def get_log(job_id: JobId) -> str:
        def read() -> str:
            text, last = "", 0
            while news := jobs.events(job_id, last)[1]:
                text, last = text + log_lines(news), news[-1].number
            return text

        return await asyncio.to_thread(read)

    @router.get("/{job_id}/files", summary="What a job has left")
    async def list_files(job: Job = Depends(found)) -> JobFileList:
        left = await asyncio.to_thread(files.list, job.id)
        return JobFileList(files=[JobFileInfo(name=f.name, size_bytes=f.size_bytes, digest=f.digest) for f in left])

    @router.get("/{job_id}/files/{name}", response_class=FileResponse, summary="One file of a job")
    async def get_file(
        name: str,
        job: Job = Depends(found),
        lease: Annotated[str | None, Header(alias="Lensmount-Lease", pattern=r"^[0-9a-f]{32}$")] = None,
    ) -> FileResponse:
        if name == CHECKPOINT and lease is None:
            raise NotFound("found no file of that name that is for everybody", code="file_not_found")
        path = await asyncio.to_thread(files.path, job.id, name)
        headers = {
            "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
            "X-Content-Type-Options": "nosniff",
        }
        return FileResponse(path, media_type=MEDIA_TYPES.get(name, "application/octet-stream"), headers=headers)

    @router.put(
        "/{job_id}/files/{name}", status_code=204, openapi_extra=adapter_body(), summary="For workers: leave a file"
    )
    async def put_file(job_id: JobId, name: str, request: Request, lease: LeaseToken) -> None:
        """The raw bytes as the body. Refused with `lease_lost` where another worker holds the job by now."""
        await files.receive(job_id, lease, name, limited(request, settings.max_job_file_bytes))

    return router


def _pin(datasets: Datasets, name: str, version: int | None) -> DatasetPin:
    found = datasets.get(name, version)
    return DatasetPin(found.name, found.version, found.digest)
