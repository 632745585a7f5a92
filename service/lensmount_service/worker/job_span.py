"""The span of one attempt at a job, below the request that queued the job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lensmount_service.errors import ServiceError
from lensmount_service.jobs.records import Lease
from lensmount_service.jobs.worker_verbs import JobQueue
from lensmount_service.tracing.span import JOB_ID, NAME, entered
from lensmount_service.tracing.tracer import NoTracer, Tracer

ATTEMPT = "lensmount.job.attempt"


@dataclass(slots=True)
class Ending:
    """How an attempt ended: `with ending.noted(): attempt.run()` notes the error that it lets through."""

    error: str = ""

    @contextmanager
    def noted(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.error = type(error).__name__
            raise


@contextmanager
def job_span(tracer: Tracer, jobs: JobQueue, lease: Lease) -> Iterator[Ending]:
    """What is done inside belongs to the attempt's span."""
    ending = Ending()
    if isinstance(tracer, NoTracer):
        yield ending
        return
    carrier = {}
    with contextlib.suppress(ServiceError):  # the database is away: the attempt begins a trace of its own
        carrier["traceparent"] = jobs.traceparent(lease.id)
    with entered(tracer.start("consumer", carrier)) as span:
        try:
            yield ending
        finally:
            job = lease.job
            span.end("job", {JOB_ID: job.id, ATTEMPT: job.attempt, NAME: job.request.adapter}, ending.error)
