"""The errors of jobs that ended without a new version of the adapter."""

from __future__ import annotations

from lensmount_client._errors import LensmountError
from lensmount_client._types.jobs import JobInfo


class JobEnded(LensmountError):
    """`Job.wait` or `Client.teach` saw the job end without an adapter. `error.job` is what the server says about it."""

    def __init__(self, message: str, job: JobInfo) -> None:
        super().__init__(message, job)  # both, so that the error survives pickling
        self.job = job

    def __str__(self) -> str:
        return str(self.args[0])


class JobCancelled(JobEnded, code="job_cancelled"):
    """The job was cancelled. `retry` queues it again."""


class JobFailed(JobEnded, code="job_failed"):
    """The last attempt failed. `error.code` is the worker's error code; `error.job.error` gives the reason."""

    def __init__(self, message: str, job: JobInfo) -> None:
        super().__init__(message, job)
        if job.error is not None:
            self.code = job.error.code


class NotPublished(JobEnded, code="not_published"):
    """`Client.teach` trained an adapter that its gate refused. The file is among the files of the job."""
