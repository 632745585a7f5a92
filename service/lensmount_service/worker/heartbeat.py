"""A worker's heartbeat: a thread of its own renews the lease, however long a training step takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import structlog

from lensmount_service.errors import JobConflict, LeaseLost, NotFound, ServiceError
from lensmount_service.jobs.records import Lease
from lensmount_service.jobs.table import JobTable

log = structlog.get_logger(__name__)

PROGRESS_S = 1.0  # how often the progress of a running job is written down


class JobCancelled(Exception):
    """The client wants this job no more."""


class WorkerStopping(Exception):
    """This process is to end; another one goes on."""


class Heartbeat:
    """`with Heartbeat(jobs, lease, beat_s=5, stopping=stopping) as heart: ... heart.check()`.

    `progress` is whatever was set last; it goes along with the next beat.
    """

    def __init__(self, jobs: JobTable, lease: Lease, beat_s: float, stopping: Callable[[], bool]) -> None:
        self.progress: dict[str, Any] | None = None
        self._jobs = jobs
        self._lease = lease
        self._beat_s = beat_s
        self._stopping = stopping
        self._ended = threading.Event()
        self._cancelled = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lensmount-heart", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def check(self) -> None:
        """Raises LeaseLost, JobCancelled or WorkerStopping where going on makes no sense."""
        if self._lost.is_set():
            raise LeaseLost("another worker holds this job now")
        if self._cancelled.is_set():
            raise JobCancelled
        if self._stopping():
            raise WorkerStopping

    def _run(self) -> None:
        written, beaten = None, time.monotonic()
        while not self._ended.wait(min(PROGRESS_S, self._beat_s)):
            progress = self.progress
            if progress is written and time.monotonic() - beaten < self._beat_s:
                continue
            try:
                if self._jobs.beat(self._lease, progress if progress is not written else None):
                    self._cancelled.set()
                written, beaten = progress, time.monotonic()
            except (JobConflict, NotFound):
                self._lost.set()
                return
            except ServiceError as error:  # the lease may outlive this; if not, the next write says so
                log.warning("heartbeat failed", job=self._lease.id, reason=str(error))
