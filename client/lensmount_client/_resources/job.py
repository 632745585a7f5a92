"""A handle on one job: what the server said last, and what can be asked of it."""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Protocol

from lensmount_client._api import jobs as calls
from lensmount_client._errors import DownloadMismatch, InvalidInput, JobCancelled, JobFailed
from lensmount_client._http.download import Download, download_target
from lensmount_client._http.operation import AsyncSendCall, Operation, SendCall, arun_operation, run_operation
from lensmount_client._resources.job_events import EventFeed
from lensmount_client._show.job_board import watching
from lensmount_client._types.jobs import JobEvent, JobFile, JobInfo, JobReport, JobResult
from lensmount_client._types.results import DownloadedFile


class Follow(Protocol):
    def __call__(self, feed: EventFeed) -> Generator[JobEvent, None, None]: ...


class AsyncFollow(Protocol):
    def __call__(self, feed: EventFeed) -> AsyncGenerator[JobEvent, None]: ...


class JobView:
    """What both handles show: `info` is all that the server said last."""

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
        """Whether it ended with a new version of the adapter on the server."""
        return self.info.published

    @property
    def result(self) -> JobResult | None:
        """What came out, once it succeeded."""
        return self.info.result

    def _checked(self) -> None:
        """Raise for an end without an adapter."""
        info = self.info
        if info.state == "failed":
            why = info.error.message if info.error else "the server does not say why"
            raise JobFailed(f"job {info.id} failed after {info.attempt} of {info.max_attempts} attempts: {why}", info)
        if info.state == "cancelled":
            raise JobCancelled(f"job {info.id} was cancelled", info)


class Job(JobView):
    """`client.jobs.submit("cells", "malaria").wait(progress=True).result.adapter.version`."""

    def __init__(self, info: JobInfo, run: SendCall, follow: Follow) -> None:
        super().__init__(info)
        self._run = run
        self._follow = follow

    def refresh(self) -> Job:
        """Ask the server how it stands."""
        self.info = self._run(calls.get_job(self.id))
        return self

    def wait(self, progress: bool | JobReport = False, timeout_s: float | None = None) -> Job:
        """Return when it has succeeded; `published` says whether the gate let the adapter through.

        `progress` draws a live bar on stderr, where no terminal is one line for each epoch, or is called with each
        event. Raises JobFailed or JobCancelled, and WaitTimeout when `timeout_s` seconds have passed: the job
        goes on then, as it does when the program ends.
        """
        feed = EventFeed(self.id, timeout_s)
        with watching(progress, self.info) as report:
            while True:
                for event in self._follow(feed):
                    report(event)
                if self.refresh().ended:
                    break
                feed.again()
        self._checked()
        return self

    def events(self) -> Generator[JobEvent, None, None]:
        """JobState, JobEpoch, JobLog, JobProgress, and JobEnd as the last: those from the start, then live.

        A lost connection is taken up again after the last event received; the client's `retries` bound the
        attempts in a row. Leaving the loop early is fine.
        """
        with closing(self._follow(EventFeed(self.id))) as events:
            yield from events

    def cancel(self) -> Job:
        """Ask for its end; a running job ends at its next step. Raises JobFinished."""
        self.info = self._run(calls.cancel_job(self.id))
        return self

    def retry(self) -> Job:
        """Queue a failed or cancelled job again. Raises JobFinished or JobNotFinished for others."""
        self.info = self._run(calls.retry_job(self.id))
        return self

    def log(self) -> str:
        """The log of all attempts."""
        return self._run(calls.job_log(self.id))

    def files(self) -> builtins.list[JobFile]:
        """What it left: adapter.safetensors, card.md, report.html, metrics.json, metrics.png, log.txt."""
        return self._run(calls.job_files(self.id))

    def download(self, name: str, path: str | Path = ".") -> DownloadedFile:
        """One of its files, to a file or into a folder; what stood there is replaced only by the whole file."""
        return run_operation(_download(self.id, name, path), self._run)


class AsyncJob(JobView):
    """The twin of `Job`: `await (await client.jobs.submit("cells", "malaria")).wait(progress=True)`."""

    def __init__(self, info: JobInfo, run: AsyncSendCall, follow: AsyncFollow) -> None:
        super().__init__(info)
        self._run = run
        self._follow = follow

    async def refresh(self) -> AsyncJob:
        """See `Job.refresh`."""
        self.info = await self._run(calls.get_job(self.id))
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
                feed.again()
        self._checked()
        return self

    async def events(self) -> AsyncGenerator[JobEvent, None]:
        """See `Job.events`."""
        async with aclosing(self._follow(EventFeed(self.id))) as events:
            async for event in events:
                yield event

    async def cancel(self) -> AsyncJob:
        """See `Job.cancel`."""
        self.info = await self._run(calls.cancel_job(self.id))
        return self

    async def retry(self) -> AsyncJob:
        """See `Job.retry`."""
        self.info = await self._run(calls.retry_job(self.id))
        return self

    async def log(self) -> str:
        """See `Job.log`."""
        return await self._run(calls.job_log(self.id))

    async def files(self) -> builtins.list[JobFile]:
        """See `Job.files`."""
        return await self._run(calls.job_files(self.id))

    async def download(self, name: str, path: str | Path = ".") -> DownloadedFile:
        """See `Job.download`."""
        return await arun_operation(_download(self.id, name, path), self._run)


def _download(job_id: str, name: str, path: str | Path) -> Operation[DownloadedFile]:
    calls.checked_file(name)
    files: list[JobFile] = yield calls.job_files(job_id)
    found = {file.name: file for file in files}
    if name not in found:
        raise InvalidInput(f"job {job_id} has no file {name}, there is: {', '.join(found) or 'none yet'}")
    with Download(download_target(path, name), DownloadMismatch) as download:
        downloaded: DownloadedFile = yield calls.download_file(job_id, found[name], download)
        return downloaded
