"""The `jobs` of a client: submit, find and list training jobs on the server."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Unpack

from lensmount_client._api import jobs as endpoints
from lensmount_client._errors import InvalidInput
from lensmount_client._http.operation import AsyncSendCall, Operation, SendCall, arun_operation, run_operation
from lensmount_client._resources.job import AsyncFollow, AsyncJob, Follow, Job
from lensmount_client._resources.many import adapter_list
from lensmount_client._types.datasets import Dataset
from lensmount_client._types.job_options import JobOptions
from lensmount_client._types.jobs import JobInfo

PAGE_SIZE = 100  # jobs per request
RESULTS = "results.jsonl"  # the file of a job that labels a dataset


class Jobs:
    """`client.jobs.submit("cells", "malaria").wait(progress=True).published`."""

    def __init__(self, send: SendCall, follow: Follow) -> None:
        self._send = send
        self._follow = follow

    def submit(
        self,
        dataset: str | Dataset,
        adapter: str,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Queue the training of `adapter` on `dataset`: a name, `name@3`, or what `datasets.push` returned.

        `options` are those of JobOptions. If the job succeeds and its gate passes, the adapter is published under
        its name and served from then on. Calls with the same `idempotency_key` are one job. By default each call
        is a job of its own, however often its request has to be sent. Raises DatasetNotFound, InvalidRequest,
        JobsFull, IdempotencyKeyReuse.
        """
        return self._job(self._send(endpoints.submit_job(dataset, adapter, options, idempotency_key)))

    def predict(
        self,
        dataset: str | Dataset,
        adapter: str | Sequence[str],
        *,
        priority: int = 0,
        idempotency_key: str | None = None,
    ) -> Job:
        """Queue a job that labels the images of `dataset` with adapters, while nobody else asks the server.

        Its result is the file results.jsonl, with a row for each image and adapter; `client.batch` writes it as Parquet
        or CSV, too. The versions that the adapters stand for now answer all images. Raises DatasetNotFound,
        AdapterNotFound, InvalidRequest, JobsFull.
        """
        call = endpoints.submit_predict(dataset, adapter_list(adapter), priority, idempotency_key)
        return self._job(self._send(call))

    def get(self, job_id: str) -> Job:
        """One job. Raises JobNotFound."""
        return self._job(self._send(endpoints.get_job(job_id)))

    def list(self, state: str | None = None, limit: int = PAGE_SIZE) -> builtins.list[Job]:
        """The newest `limit` jobs, newest first; with `state` only those in that state."""
        return [self._job(info) for info in run_operation(_pages(state, limit), self._send)]

    def _job(self, info: JobInfo) -> Job:
        return Job(info, self._send, self._follow)


class AsyncJobs:
    """Like `Jobs`, for AsyncClient: `(await (await client.jobs.submit("cells", "malaria")).wait()).published`."""

    def __init__(self, send: AsyncSendCall, follow: AsyncFollow) -> None:
        self._send = send
        self._follow = follow

    async def submit(
        self,
        dataset: str | Dataset,
        adapter: str,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> AsyncJob:
        """See `Jobs.submit`."""
        return self._job(await self._send(endpoints.submit_job(dataset, adapter, options, idempotency_key)))

    async def predict(
        self,
        dataset: str | Dataset,
        adapter: str | Sequence[str],
        *,
        priority: int = 0,
        idempotency_key: str | None = None,
    ) -> AsyncJob:
        """See `Jobs.predict`."""
        call = endpoints.submit_predict(dataset, adapter_list(adapter), priority, idempotency_key)
        return self._job(await self._send(call))

    async def get(self, job_id: str) -> AsyncJob:
        """See `Jobs.get`."""
        return self._job(await self._send(endpoints.get_job(job_id)))

    async def list(self, state: str | None = None, limit: int = PAGE_SIZE) -> builtins.list[AsyncJob]:
        """See `Jobs.list`."""
        return [self._job(info) for info in await arun_operation(_pages(state, limit), self._send)]

    def _job(self, info: JobInfo) -> AsyncJob:
        return AsyncJob(info, self._send, self._follow)


def _pages(state: str | None, limit: int) -> Operation[list[JobInfo]]:
    if limit < 1:
        raise InvalidInput(f"limit: found {limit}, expected 1 or more")
    jobs: list[JobInfo] = []
    while len(jobs) < limit:
        size = min(limit - len(jobs), PAGE_SIZE)
        page: list[JobInfo] = yield endpoints.list_jobs(state, size, jobs[-1].id if jobs else None)
        jobs += page
        if len(page) < size:
            break
    return jobs[:limit]
