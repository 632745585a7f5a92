"""The `jobs` of a client: trainings on the server, submitted, found again and listed."""

from __future__ import annotations

import builtins
from typing import Unpack

from lensmount_client._api import jobs as calls
from lensmount_client._errors import InvalidInput
from lensmount_client._http.operation import AsyncSendCall, Operation, SendCall, arun_operation, run_operation
from lensmount_client._resources.job import AsyncFollow, AsyncJob, Follow, Job
from lensmount_client._types.datasets import Dataset
from lensmount_client._types.job_options import JobOptions
from lensmount_client._types.jobs import JobInfo

PAGE = 100  # jobs asked for at a time


class Jobs:
    """`client.jobs.submit("cells", "malaria").wait(progress=True).published`."""

    def __init__(self, run: SendCall, follow: Follow) -> None:
        self._run = run
        self._follow = follow

    def submit(
        self,
        dataset: str | Dataset,
        adapter: str,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Queue a training of `adapter` on `dataset`: a name, `name@3`, or what `datasets.push` returned.

        `options` are those of JobOptions. When it has succeeded and its gate lets it through, the adapter
        is published under its name, and served from then on. Calls with one `idempotency_key` are one job; by
        default each call is one, however often it has to be sent. Raises DatasetNotFound, InvalidRequest,
        JobsFull, IdempotencyKeyReuse.
        """
        return self._job(self._run(calls.submit_job(dataset, adapter, options, idempotency_key)))

    def get(self, job_id: str) -> Job:
        """One job. Raises JobNotFound."""
        return self._job(self._run(calls.get_job(job_id)))

    def list(self, state: str | None = None, limit: int = PAGE) -> builtins.list[Job]:
        """The newest `limit` jobs, newest first: all, or those of one state."""
        return [self._job(info) for info in run_operation(_pages(state, limit), self._run)]

    def _job(self, info: JobInfo) -> Job:
        return Job(info, self._run, self._follow)


class AsyncJobs:
    """The twin of `Jobs`: `(await (await client.jobs.submit("cells", "malaria")).wait()).published`."""

    def __init__(self, run: AsyncSendCall, follow: AsyncFollow) -> None:
        self._run = run
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
        return self._job(await self._run(calls.submit_job(dataset, adapter, options, idempotency_key)))

    async def get(self, job_id: str) -> AsyncJob:
        """See `Jobs.get`."""
        return self._job(await self._run(calls.get_job(job_id)))

    async def list(self, state: str | None = None, limit: int = PAGE) -> builtins.list[AsyncJob]:
        """See `Jobs.list`."""
        return [self._job(info) for info in await arun_operation(_pages(state, limit), self._run)]

    def _job(self, info: JobInfo) -> AsyncJob:
        return AsyncJob(info, self._run, self._follow)


def _pages(state: str | None, limit: int) -> Operation[list[JobInfo]]:
    if limit < 1:
        raise InvalidInput(f"limit: found {limit}, expected 1 or more")
    found: list[JobInfo] = []
    while len(found) < limit:
        size = min(limit - len(found), PAGE)
        page: list[JobInfo] = yield calls.list_jobs(state, size, found[-1].id if found else None)
        found += page
        if len(page) < size:
            break
    return found[:limit]
