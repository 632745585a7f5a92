"""Rows of the job table: read as records, and changed together with their events in the caller's transaction."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from lensmount_service.errors import NotFound
from lensmount_service.jobs.lease import LEASE_S
from lensmount_service.jobs.lease_watch import LeaseWatch
from lensmount_service.jobs.records import ENDED, DatasetPin, Event, Job, JobRequest, Kind, State
from lensmount_service.jobs.schema import event_table, job_table
from lensmount_service.store.database import Database
from lensmount_service.store.keys import DEFAULT_TENANT, Charge, free_of_charge, key_of, name_of

MAX_ERROR_CHARACTERS = 4000
MAX_DELAY_S = 3600.0  # no attempt waits for longer

ChargeJob = Callable[[sa.Connection, str, str | None], object]

_jobs = job_table.c
_events = event_table.c


class JobRows:
    """The database, and the state changes that both clients and workers cause; `JobTable` is built on it."""

    def __init__(
        self,
        database: Database,
        lease_s: float = LEASE_S,
        max_queued: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        charge: ChargeJob = lambda connection, tenant, owner: None,
        charge_files: Charge = free_of_charge,
    ) -> None:
        """`charge` raises QuotaExceeded, in the transaction that queues a job, if no more of its owner may wait;
        `charge_files` raises StoredTooMuch in the one that keeps a file.
        """
        self.database = database
        self.lease_s = lease_s
        self.max_queued = max_queued
        self._charge = charge
        self._charge_files = charge_files
        self._watch = LeaseWatch(lease_s, clock)
        database.create()

    def reap(self) -> bool:
        """End the jobs whose worker is gone and that get no further attempt. Returns whether one may be claimed."""
        if not self._has_claimable():
            return False
        with self.database.write() as connection:
            self._reap(connection)
        return True

    def _has_claimable(self) -> bool:
        """True if a job is claimable (queued or lease expired). Read-only, so it never blocks writers."""
        with self.database.read() as connection:
            if self._expired(connection):
                return True
            query = sa.select(_jobs.number).where(is_waiting(self.database.now(connection))).limit(1)
            return connection.execute(query).one_or_none() is not None

    def _expired(self, connection: sa.Connection) -> list[str]:
        """The ids of the jobs whose worker has not renewed its lease in time."""
        running = sa.select(_jobs.id, _jobs.lease_token, _jobs.lease_until).where(_jobs.state == "running")
        return self._watch.expired((row.id, row.lease_token, row.lease_until) for row in connection.execute(running))

    def _reap(self, connection: sa.Connection) -> None:
        expired = sa.select(job_table).where(
            _jobs.id.in_(self._expired(connection)),
            sa.or_(_jobs.cancel_requested, _jobs.attempt >= _jobs.max_attempts),
        )
        for row in connection.execute(expired).all():
            if row.cancel_requested:
                self._end(connection, row.id, "cancelled")
            else:
                self._end(connection, row.id, "failed", None, _worker_lost(row.attempt, row.max_attempts))

    def _end(
        self,
        connection: sa.Connection,
        job_id: str,
        state: State,
        outcome: dict[str, Any] | None = None,
        error: tuple[str, str] | None = None,
        **changes: Any,
    ) -> None:
        """End the job; `changes` are further columns to set."""
        code, message = error or (None, None)
        self._set(
            connection,
            job_id,
            state=state,
            outcome=outcome,
            error_code=code,
            error_message=message and message[:MAX_ERROR_CHARACTERS],
            finished_at=self.database.now(connection),
            **_NO_LEASE,
            **changes,
        )
        attempt = job_row(connection, job_id).attempt
        self._add_event(connection, job_id, "state", {"state": state, "attempt": attempt}, error)

    def _release(
        self, connection: sa.Connection, row: Any, attempt: int, run_after: float, error: tuple[str, str] | None
    ) -> None:
        """Queue the job again, or end it if it is to be cancelled."""
        if row.cancel_requested:
            self._end(connection, row.id, "cancelled")
            return
        self._set(connection, row.id, state="queued", attempt=attempt, run_after=run_after, progress=None, **_NO_LEASE)
        self._add_event(connection, row.id, "state", {"state": "queued", "attempt": attempt}, error)

    def _set(self, connection: sa.Connection, job_id: str, **values: Any) -> None:
        connection.execute(job_table.update().where(_jobs.id == job_id).values(**values))

    def _add_event(
        self,
        connection: sa.Connection,
        job_id: str,
        kind: str,
        data: dict[str, Any],
        error: tuple[str, str] | None = None,
    ) -> None:
        if error is not None:
            data = {**data, "error": {"code": error[0], "message": error[1][:MAX_ERROR_CHARACTERS]}}
        last = connection.execute(sa.select(sa.func.max(_events.number)).where(_events.job_id == job_id)).scalar_one()
        connection.execute(
            event_table.insert().values(
                job_id=job_id, number=(last or 0) + 1, kind=kind, at=self.database.now(connection), data=data
            )
        )


_NO_LEASE = {"lease_owner": None, "lease_token": None, "lease_until": None}


def _worker_lost(attempts: int, max_attempts: int) -> tuple[str, str]:
    times = "once" if attempts == 1 else f"{attempts} times"
    return (
        "worker_lost",
        f"the worker went away {times} without a word, expected it to finish in {max_attempts} attempt(s). "
        "Fix: see the worker's own log (out of memory?), then POST /jobs/{id}/retry",
    )


def is_waiting(now: float) -> sa.ColumnElement[bool]:
    """The job is queued and its delay is over, or lies so far ahead that the clock was set back."""
    over = sa.or_(_jobs.run_after <= now, _jobs.run_after > now + MAX_DELAY_S)
    return sa.and_(_jobs.state == "queued", over)


def of_kind(kind: Kind) -> sa.ColumnElement[bool]:
    """Only the jobs that do this."""
    return _jobs.kind.is_(None) if kind == "train" else _jobs.kind == kind


def of_tenant(tenant: str) -> sa.ColumnElement[bool]:
    """Only the jobs of a tenant."""
    return _jobs.tenant.is_(None) if tenant == DEFAULT_TENANT else _jobs.tenant == tenant


def job_row(connection: sa.Connection, job_id: str, tenant: str | None = None) -> sa.Row[Any]:
    """A job of any tenant, or of one. Raises NotFound (`job_not_found`)."""
    query = sa.select(job_table).where(_jobs.id == job_id)
    row = connection.execute(query if tenant is None else query.where(of_tenant(tenant))).one_or_none()
    if row is None:
        raise NotFound(f"found no job {job_id[:32]!r}. Fix: see GET /jobs for the ids", code="job_not_found")
    return row


_SAME_NAME = ("alias", "backbone", "hyper_parameters", "priority", "max_attempts", "margin", "force", "canary", "owner")


def columns_of(request: JobRequest) -> dict[str, Any]:
    """The request as columns of the job table."""
    values = {name: getattr(request, name) for name in _SAME_NAME}
    pin, tenant = request.dataset, request.tenant
    return {
        **values,
        "kind": None if request.kind == "train" else request.kind,
        "by_admin": request.by_admin,
        "tenant": None if tenant == DEFAULT_TENANT else tenant,
        "adapter": key_of(tenant, request.adapter),
        "dataset": pin.key or key_of(tenant, pin.name),
        "dataset_version": pin.version,
        "dataset_digest": pin.digest,
        "shared_dataset": None if pin.key is None else pin.name,
    }


def job_of(row: Any) -> Job:
    """A row of the job table as a record."""
    request = JobRequest(
        dataset=DatasetPin(
            row.shared_dataset or name_of(row.dataset),
            row.dataset_version,
            row.dataset_digest,
            row.dataset if row.shared_dataset else None,
        ),
        adapter=name_of(row.adapter),
        kind=row.kind or "train",
        tenant=row.tenant or DEFAULT_TENANT,
        by_admin=bool(row.by_admin),
        **{name: getattr(row, name) for name in _SAME_NAME},
    )
    return Job(
        id=row.id,
        number=row.number,
        request=request,
        state=row.state,
        attempt=row.attempt,
        cancel_requested=row.cancel_requested,
        progress=row.progress,
        outcome=row.outcome if row.state in ENDED else None,
        error=(row.error_code, row.error_message) if row.error_code else None,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def event_of(row: Any) -> Event:
    """A row of the event table as a record."""
    return Event(row.number, row.kind, row.at, row.data)
