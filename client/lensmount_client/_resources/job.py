"""A handle on one job: its last known state, and what can be done with it."""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Protocol

from lensmount_client._advice import for_python
from lensmount_client._api import jobs as endpoints
from lensmount_client._errors import DownloadMismatch, InvalidInput
from lensmount_client._http.download import Download, download_target
from lensmount_client._http.operation import AsyncSendCall, Operation, SendCall, arun_operation, run_operation
from lensmount_client._resources.job_events import EventFeed
from lensmount_client._show.job_board import watching
from lensmount_client._types.ended import JobCancelled, JobFailed
from lensmount_client._types.jobs import JobEvent, JobFile, JobInfo, JobReport, JobResult
from lensmount_client._types.results import DownloadedFile


class Follow(Protocol):
    def __call__(self, feed: EventFeed) -> Generator[JobEvent, None, None]: ...


class AsyncFollow(Protocol):
    def __call__(self, feed: EventFeed) -> AsyncGenerator[JobEvent, None]: ...


class JobView:
    """What both handles have in common. `info` is the server's last description of the job."""

    def __init__(self, info: JobInfo) -> None:
        self.info = info

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state}: {self.info.adapter} from {self.info.dataset.name}>"

    @property
    def id(self) -> str:
        return self.info.id

    @property
    def state(self) -> str:
        """queued, running, succeeded, failed or cancelled."""
        return self.info.state

    @property
    def ended(self) -> bool:
        return self.info.ended

    @property
    def published(self) -> bool:
        """True if it ended with a new version of the adapter on the server."""
        return self.info.published

    @property
    def result(self) -> JobResult | None:
        """Its results, once it has succeeded."""
        return self.info.result

    def _raise_unless_succeeded(self) -> None:
        """Raise JobFailed or JobCancelled."""
        info = self.info
        if info.state == "failed":
            reason = for_python(info.error.message) if info.error else "the server gives no reason"
            raise JobFailed(
                f"job {info.id} failed after {info.attempt} of {info.max_attempts} attempts: {reason}", info
            )
        if info.state == "cancelled":
            raise JobCancelled(f"job {info.id} was cancelled", info)


class Job(JobView):
    """`client.jobs.submit("cells", "malaria").wait(progress=True).result.adapter.version`."""

    def __init__(self, info: JobInfo, send: SendCall, follow: Follow) -> None:
        super().__init__(info)
        self._send = send
        self._follow = follow

    def refresh(self) -> Job:
        """Update `info` from the server."""
        self.info = self._send(endpoints.get_job(self.id))
        return self

    def wait(self, progress: bool | JobReport = False, timeout_s: float | None = None) -> Job:
        """Return when it has succeeded. `published` says whether the gate let the adapter through.

        `progress` draws a live bar on stderr (without a terminal: prints one line per epoch), or is called with each
        event. Raises JobFailed or JobCancelled, or WaitTimeout after `timeout_s` seconds. The job continues after
        a WaitTimeout, and also when the program ends.
        """
        feed = EventFeed(self.id, timeout_s)
        with watching(progress, self.info) as report:
            while True:
                for event in self._follow(feed):
                    report(event)
                if self.refresh().ended:
                    break
                feed.reopen()
        self._raise_unless_succeeded()
        return self

    def events(self) -> Generator[JobEvent, None, None]:
        """JobState, JobEpoch, JobLog and JobProgress from the start of the job, then live; JobEnd is the last.

        A lost connection is reopened and resumes after the last event received. The client's `retries` limit the
        attempts in a row. Leaving the loop early is fine.
        """
        with closing(self._follow(EventFeed(self.id))) as events:
            yield from events

    def cancel(self) -> Job:
        """Cancel it. A running job ends at its next step. Raises JobFinished."""
        self.info = self._send(endpoints.cancel_job(self.id))
        return self

    def retry(self) -> Job:
        """Queue a failed or cancelled job again. Raises JobFinished or JobNotFinished for others."""
        self.info = self._send(endpoints.retry_job(self.id))
        return self

    def log(self) -> str:
        """The log of all attempts."""
        return self._send(endpoints.job_log(self.id))

    def files(self) -> builtins.list[JobFile]:
        """Its files: adapter.safetensors, card.md, report.html, metrics.json, metrics.png, log.txt."""
        return self._send(endpoints.job_files(self.id))

    def delete_files(self) -> None:
        """Delete its files, which count as stored bytes; what it published stays. Raises JobNotFinished."""
        self._send(endpoints.delete_files(self.id))

    def download(self, name: str, path: str | Path = ".") -> DownloadedFile:
        """Download one of its files to a file or into a folder. An existing file is replaced only by a complete one."""
        return run_operation(_download(self.id, name, path), self._send)


class AsyncJob(JobView):
    """Like `Job`, for AsyncClient: `await (await client.jobs.submit("cells", "malaria")).wait(progress=True)`."""

    def __init__(self, info: JobInfo, send: AsyncSendCall, follow: AsyncFollow) -> None:
        super().__init__(info)
        self._send = send
        self._follow = follow

    async def refresh(self) -> AsyncJob:
        """See `Job.refresh`."""
        self.info = await self._send(endpoints.get_job(self.id))
        return self

    async def wait(self, progress: bool | JobReport = False, timeout_s: float | None = None) -> AsyncJob:
        """See `Job.wait`."""
        feed = EventFeed(self.id, timeout_s)
        with watching(progress, self.info) as report:
            while True:
                async with aclosing(self._follow(feed)) as events:
                    async for event in events:
                        report(event)
                if (await self.refresh()).ended:
                    break
                feed.reopen()
        self._raise_unless_succeeded()
        return self

    async def events(self) -> AsyncGenerator[JobEvent, None]:
        """See `Job.events`."""
        async with aclosing(self._follow(EventFeed(self.id))) as events:
            async for event in events:
                yield event

    async def cancel(self) -> AsyncJob:
        """See `Job.cancel`."""
        self.info = await self._send(endpoints.cancel_job(self.id))
        return self

    async def retry(self) -> AsyncJob:
        """See `Job.retry`."""
        self.info = await self._send(endpoints.retry_job(self.id))
        return self

    async def log(self) -> str:
        """See `Job.log`."""
        return await self._send(endpoints.job_log(self.id))

    async def files(self) -> builtins.list[JobFile]:
        """See `Job.files`."""
        return await self._send(endpoints.job_files(self.id))

    async def delete_files(self) -> None:
        """See `Job.delete_files`."""
        await self._send(endpoints.delete_files(self.id))

    async def download(self, name: str, path: str | Path = ".") -> DownloadedFile:
        """See `Job.download`."""
        return await arun_operation(_download(self.id, name, path), self._send)


def _download(job_id: str, name: str, path: str | Path) -> Operation[DownloadedFile]:
    endpoints.checked_file(name)
    files: list[JobFile] = yield endpoints.job_files(job_id)
    by_name = {file.name: file for file in files}
    if name not in by_name:
        known = ", ".join(by_name) or "none yet"
        raise InvalidInput(f"job {job_id} has no file {name}. Existing files: {known}")
    with Download(download_target(path, name), DownloadMismatch) as download:
        downloaded: DownloadedFile = yield endpoints.download_file(job_id, by_name[name], download)
        return downloaded
