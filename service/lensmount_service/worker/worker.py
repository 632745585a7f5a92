"""A training worker: a separate process that claims jobs from the job table, one after the other.

It serves no requests. It sends its results to the server over HTTP and writes its progress to the job table.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

import structlog
import torch

from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.backbone.model import Backbone, require_device
from lensmount_adapters.errors import LensmountError
from lensmount_adapters.machine import bound_memory, choose_device
from lensmount_service.errors import JobConflict, NotFound, ServiceError
from lensmount_service.jobs.records import Lease
from lensmount_service.jobs.table import JobTable
from lensmount_service.jobs.worker_table import NOTE_S, WorkerTable
from lensmount_service.jobs.worker_verbs import JobQueue
from lensmount_service.repair.start import require_usable
from lensmount_service.state_folder import in_use
from lensmount_service.store.database import Database
from lensmount_service.tracing.opening import open_tracer
from lensmount_service.tracing.tracer import NoTracer, Tracer
from lensmount_service.worker.attempt import JobAttempt, work_folder
from lensmount_service.worker.heartbeat import Heartbeat, JobCancelled, WorkerStopping
from lensmount_service.worker.job_span import Ending, job_span
from lensmount_service.worker.server_client import ServerAway, ServerRefused, open_client, require_server
from lensmount_service.worker.settings import WorkerSettings

log = structlog.get_logger(__name__)

GRACE_S = 3.0  # how long the current step may still take after SIGTERM, before the job is given back without it
RETRY_S = (2.0, 60.0)  # first and longest delay before another attempt


class Worker:
    """`Worker(settings, jobs, workers, backbone).run()` works until `stop()`, or, with `once`, until no job is left.

    `damaged` is True after a job has changed the backbone; then the process must end.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        jobs: JobQueue,
        workers: WorkerTable,
        backbone: Backbone,
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._backbone = backbone
        self._stop = threading.Event()
        self._lease: Lease | None = None
        self._workers = workers
        self._tracer = tracer or NoTracer()
        self._noted_at = -NOTE_S
        self.damaged = False
        self.name = f"{socket.gethostname()}:{os.getpid()}"

    def stop(self) -> None:
        """Give the job back at its next step and claim no other one."""
        self._stop.set()

    def run(self) -> None:
        """Claim jobs and train them, one after the other."""
        try:
            self._claim_and_work()
        finally:
            with contextlib.suppress(ServiceError):
                self._workers.forget(self.name)

    def _claim_and_work(self) -> None:
        while not self._stop.is_set():
            self._note()
            lease = self._claim()
            if lease is not None:
                self._lease = lease
                try:
                    with job_span(self._tracer, self._jobs, lease) as ending:
                        self._work(lease, ending)
                finally:
                    self._lease = None
                if changed := self._backbone.changed():
                    log.error("a job left the backbone changed, this worker ends", tensors=len(changed))
                    self.damaged = True
                    return
            elif self._settings.once:
                return
            else:
                self._stop.wait(self._settings.poll_s)

    def abandon(self) -> None:
        """Give the job back from another thread, when its own thread does not get to it in time."""
        lease = self._lease
        if lease is None:
            return
        log.info("job given back in the middle of a step", job=lease.id)
        with contextlib.suppress(ServiceError):
            self._jobs.give_back(lease)
        shutil.rmtree(work_folder(self._settings, lease), ignore_errors=True)

    def _note(self) -> None:
        """Record every `NOTE_S` seconds that a worker is there; while a job runs, its lease shows it."""
        if time.monotonic() - self._noted_at >= NOTE_S:
            with contextlib.suppress(ServiceError):
                self._workers.note(self.name, self._backbone.fingerprint)
            self._noted_at = time.monotonic()

    def _claim(self) -> Lease | None:
        try:
            return self._jobs.claim(self.name, self._backbone.fingerprint)
        except ServiceError as error:
            log.warning("no job claimed", reason=str(error))
            self._stop.wait(1)
            return None

    def _work(self, lease: Lease, ending: Ending) -> None:
        settings = self._settings
        log.info("job claimed", job=lease.id, attempt=lease.job.attempt, adapter=lease.job.request.adapter)
        token = settings.token.get_secret_value() if settings.token else None
        try:
            with Heartbeat(self._jobs, lease, settings.beat_s, self._stop.is_set) as heartbeat:
                with open_client(settings.server, token, settings.retry_for_s, heartbeat.check) as server:
                    attempt = JobAttempt(settings, self._jobs, lease, self._backbone, server, heartbeat)
                    self._run_and_end(lease, attempt, ending)
        except (JobConflict, NotFound) as error:  # another worker holds the job, or the job no longer exists
            log.warning("job lost", job=lease.id, reason=str(error))
        except (ServiceError, WorkerStopping, JobCancelled) as error:  # the job's end cannot be stored now
            log.error("job left to its lease", job=lease.id, reason=str(error))
        else:
            log.info("job done", job=lease.id)

    def _run_and_end(self, lease: Lease, attempt: JobAttempt, ending: Ending) -> None:
        """Run the job and store how it ended. Raises ServiceError."""
        try:
            with ending.noted():
                attempt.run()
        except JobCancelled:
            attempt.durably(lambda: self._jobs.finish(lease, "cancelled"))
        except WorkerStopping:
            self._jobs.give_back(lease)
        except ServerRefused as refused:
            self._fail(lease, attempt, refused.code, str(refused))
        except LensmountError as error:
            self._fail(lease, attempt, error.code, str(error))
        except JobConflict:
            raise
        except ServerAway as error:
            self._try_again(lease, attempt, "server_away", str(error))
        except Exception as error:  # training may raise anything: the job is tried again and the worker lives on
            if not self._is_held(lease):
                raise JobConflict("another worker holds the job", code="lease_lost") from error
            log.error("attempt failed", job=lease.id, exc_info=error)
            self._try_again(lease, attempt, "attempt_failed", f"{type(error).__name__}: {error}")

    def _is_held(self, lease: Lease) -> bool:
        """False if the lease is lost; then the attempt's folder may be deleted, and an error may come from that."""
        try:
            self._jobs.beat(lease)
        except (JobConflict, NotFound):
            return False
        return True

    def _fail(self, lease: Lease, attempt: JobAttempt, code: str, message: str) -> None:
        if code == "job_cancelled":
            attempt.durably(lambda: self._jobs.finish(lease, "cancelled"))
            return
        log.warning("job failed", job=lease.id, code=code, reason=message)
        attempt.durably(lambda: self._jobs.finish(lease, "failed", None, (code, message)))

    def _try_again(self, lease: Lease, attempt: JobAttempt, code: str, message: str) -> None:
        first, longest = RETRY_S
        delay_s = min(longest, first * 2 ** (lease.job.attempt - 1))
        attempt.durably(lambda: self._jobs.try_again(lease, (code, message), delay_s))


@contextlib.contextmanager
def open_worker(
    settings: WorkerSettings, backbone: Backbone | None = None, tracer: Tracer | None = None
) -> Iterator[Worker]:
    """Open the database, load the backbone and yield a worker. Raises LensmountError or ServiceError."""
    torch.set_num_threads(settings.threads)
    require_usable(settings.state, settings.database_url(), blobs_elsewhere=settings.database is not None)
    if backbone is None:
        device = choose_device(settings.device)
        require_device(device)
        bound_memory(torch.device(device), settings.gpu_share)
        backbone = load_backbone(settings.backbone, settings.weights, device)
    with in_use(settings.state), contextlib.closing(Database(settings.database_url())) as database:
        yield Worker(settings, JobTable(database, settings.lease_s), WorkerTable(database), backbone, tracer)


def work(settings: WorkerSettings, backbone: Backbone | None = None) -> None:
    """Work until SIGINT or SIGTERM; then give the running job back within 5 seconds and end the process with status 0.

    Jobs run in a second thread, so that a signal is handled even in the middle of a long step. With `settings.parent`
    the worker ends with that process.
    """
    os.nice(settings.nice)
    must_end = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        must_end.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    if settings.parent is not None:
        _end_with(settings.parent)
    with open_tracer("lensmount-worker") as tracer, open_worker(settings, backbone, tracer) as worker:
        token = settings.token.get_secret_value() if settings.token else None
        require_server(settings.server, token, settings.backbone)
        log.info(
            "working",
            server=settings.server,
            backbone=settings.backbone,
            threads=settings.threads,
            worker=worker.name,
            state=str(settings.state),
        )
        thread = threading.Thread(target=worker.run, name="lensmount-worker", daemon=True)
        thread.start()
        while thread.is_alive() and not must_end.wait(0.5):
            if settings.parent is not None and os.getppid() != settings.parent:
                must_end.set()
        worker.stop()
        thread.join(GRACE_S)
        if thread.is_alive():
            worker.abandon()
    if must_end.is_set() or worker.damaged:
        sys.stderr.flush()
        os._exit(
            int(worker.damaged)
        )  # an unfinished step, or torch's own shutdown, would delay a process with low priority


def _end_with(parent: int) -> None:
    """On Linux, ask for SIGTERM when the parent dies, even by kill -9. Elsewhere `work` polls getppid()."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
