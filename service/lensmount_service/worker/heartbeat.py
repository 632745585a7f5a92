"""A worker's heartbeat: a background thread renews the lease, however long a training step takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

from lensmount_service.background_thread import BackgroundThread
from lensmount_service.errors import JobConflict, LeaseLost, NotFound, ServiceError
from lensmount_service.jobs.records import Lease
from lensmount_service.jobs.worker_verbs import JobQueue

log = structlog.get_logger(__name__)

PROGRESS_S = 1.0  # seconds between two looks for progress that is not stored yet


class JobCancelled(Exception):
    """The client no longer wants this job."""


class WorkerStopping(Exception):
    """This process is about to end; another worker will continue the job."""


class Heartbeat(BackgroundThread):
    """`with Heartbeat(jobs, lease, beat_s=5, stopping=stopping) as heartbeat: ... heartbeat.check()`.

    `progress` is sent with the next beat; if it is set several times between two beats, the last value counts.
    """

    def __init__(self, jobs: JobQueue, lease: Lease, beat_s: float, stopping: Callable[[], bool]) -> None:
        super().__init__("lensmount-heart")
        self.progress: dict[str, Any] | None = None
        self._jobs = jobs
        self._lease = lease
        self._beat_s = beat_s
        self._stopping = stopping
        self._cancelled = threading.Event()
        self._lost = threading.Event()

    def check(self) -> None:
        """Raises LeaseLost, JobCancelled or WorkerStopping if this attempt should end."""
        if self._lost.is_set():
            raise LeaseLost("another worker holds this job now")
        if self._cancelled.is_set():
            raise JobCancelled
        if self._stopping():
            raise WorkerStopping

    def _run(self) -> None:
        stored, last_beat = None, time.monotonic()
        while not self._ended.wait(min(PROGRESS_S, self._beat_s)):
            progress = self.progress
            if progress is stored and time.monotonic() - last_beat < self._beat_s:
                continue
            try:
                if self._jobs.beat(self._lease, progress if progress is not stored else None):
                    self._cancelled.set()
                stored, last_beat = progress, time.monotonic()
            except (JobConflict, NotFound):
                self._lost.set()
                return
            except ServiceError as error:  # the lease may outlast this; otherwise the next write raises LeaseLost
                log.warning("heartbeat failed", job=self._lease.id, reason=str(error))
