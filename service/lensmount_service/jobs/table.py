"""The durable job table: each job is leased to one worker at a time, and every write of a worker carries its lease.

A worker that dies stops renewing its lease; when it runs out, another claims the job with a new token, and whatever the
first one still sends is refused. Every change of a job is one transaction together with its event.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import sqlalchemy as sa

from lensmount_service.errors import JobConflict, LeaseLost, NotFound, QueueFull, RequestInvalid
from lensmount_service.jobs.lease import LEASE_S
from lensmount_service.jobs.records import ENDED, DatasetPin, Event, Job, JobRequest, Lease, Published, State
from lensmount_service.jobs.schema import event_table, job_table, publication_table
from lensmount_service.store.database import Database

MAX_ERROR_CHARACTERS = 4000

_jobs = job_table.c
_events = event_table.c


class JobTable:
    """`jobs.submit(request)`, `lease = jobs.claim("me", backbone)`, `jobs.beat(lease)`, `jobs.finish(lease, ...)`.

    Safe from any thread and any process. `lease_s` is how long a worker may be silent before its job is another's.
    """

    def __init__(self, database: Database, lease_s: float = LEASE_S, max_queued: int = 10_000) -> None:
        self.database = database
        self.lease_s = lease_s
        self._max_queued = max_queued
        database.create()

    # For clients

    def submit(
        self,
        request: JobRequest,
        key: str | None = None,
        request_digest: str | None = None,
        check: Callable[[sa.Connection], object] | None = None,
    ) -> tuple[Job, bool]:
        """The new job, and True; or the one that this idempotency key made before, and False.

        `check` runs in the same transaction, to raise where the dataset is gone by now.
        Raises RequestInvalid (`idempotency_key_reuse`) or QueueFull (`jobs_full`).
        """
        with self.database.write() as connection:
            if key is not None:
                earlier = connection.execute(sa.select(job_table).where(_jobs.idempotency_key == key)).one_or_none()
                if earlier is not None:
                    if earlier.request_digest != request_digest:
                        raise RequestInvalid(
                            "found an Idempotency-Key that another request has used, expected a new one. "
                            "Fix: a fresh key for each new job",
                            code="idempotency_key_reuse",
                        )
                    return _job(earlier), False
            waiting = sa.select(sa.func.count()).select_from(job_table).where(_jobs.state == "queued")
            if connection.execute(waiting).scalar_one() >= self._max_queued:
                raise QueueFull(
                    f"found {self._max_queued} jobs waiting already. Fix: come back later, or cancel some",
                    code="jobs_full",
                    retry_after_s=60,
                )
            if check is not None:
                check(connection)
            values = {
                "id": uuid.uuid4().hex,
                "state": "queued",
                **_columns(request),
                "idempotency_key": key,
                "request_digest": request_digest,
                "created_at": self.database.now(connection),
            }
            row = connection.execute(job_table.insert().values(values).returning(job_table)).one()
            self._tell(connection, row.id, "state", {"state": "queued", "attempt": 0})
            return _job(row), True

    def get(self, job_id: str) -> Job:
        """Raises NotFound (`job_not_found`)."""
        with self.database.read() as connection:
            return _job(_row(connection, job_id))

    def list(self, state: State | None = None, limit: int = 100, before: str | None = None) -> list[Job]:
        """Newest first; `before` is the id of the last job of the page before."""
        with self.database.read() as connection:
            query = sa.select(job_table).order_by(_jobs.number.desc()).limit(limit)
            if state is not None:
                query = query.where(_jobs.state == state)
            if before is not None:
                query = query.where(_jobs.number < _row(connection, before).number)
            return [_job(row) for row in connection.execute(query)]

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> tuple[Job, tuple[Event, ...]]:
        """The job and, of the same moment, its events with a number over `after`, oldest first."""
        with self.database.read() as connection:
            job = _job(_row(connection, job_id))
            query = (
                sa.select(event_table)
                .where(_events.job_id == job_id, _events.number > after)
                .order_by(_events.number)
                .limit(limit)
            )
            return job, tuple(_event(row) for row in connection.execute(query))

    def histories(self, job_ids: Sequence[str]) -> dict[str, tuple[dict[str, Any], ...]]:
        """The epochs of each job, the last telling of each where an attempt went over it again."""
        found: dict[str, dict[int, dict[str, Any]]] = {job_id: {} for job_id in job_ids}
        with self.database.read() as connection:
            query = (
                sa.select(event_table)
                .where(_events.job_id.in_(job_ids), _events.kind == "epoch")
                .order_by(_events.job_id, _events.number)
            )
            for row in connection.execute(query):
                epochs = found[row.job_id]
                for later in [epoch for epoch in epochs if epoch >= row.data["epoch"]]:
                    del epochs[later]
                epochs[row.data["epoch"]] = row.data
        return {job_id: tuple(epochs.values()) for job_id, epochs in found.items()}

    def cancel(self, job_id: str) -> Job:
        """A queued job ends at once, a running one at its worker's next step; asking twice is asking once.

        Raises NotFound, or JobConflict (`job_finished`).
        """
        with self.database.write() as connection:
            self._reap(connection)
            row = _row(connection, job_id)
            if row.state in ("succeeded", "failed"):
                raise JobConflict(f"found a job that has {row.state}, expected one that waits or runs")
            if row.state == "queued":
                self._end(connection, job_id, "cancelled", cancel_requested=True)
            elif row.state == "running":
                connection.execute(job_table.update().where(_jobs.id == job_id).values(cancel_requested=True))
            return _job(_row(connection, job_id))

    def retry(self, job_id: str) -> Job:
        """A failed or cancelled job waits again, its attempts counted anew.

        Raises NotFound, or JobConflict (`job_finished`, `job_not_finished`).
        """
        with self.database.write() as connection:
            row = _row(connection, job_id)
            if row.state not in ("failed", "cancelled"):
                code = "job_finished" if row.state == "succeeded" else "job_not_finished"
                raise JobConflict(
                    f"found a job that is {row.state}, expected one that failed or was cancelled", code=code
                )
            self._set(
                connection,
                job_id,
                state="queued",
                attempt=0,
                run_after=0.0,
                cancel_requested=False,
                progress=None,
                outcome=None,
                error_code=None,
                error_message=None,
                started_at=None,
                finished_at=None,
            )
            self._tell(connection, job_id, "state", {"state": "queued", "attempt": 0})
            return _job(_row(connection, job_id))

    # For workers

    def claim(self, owner: str, backbone: str) -> Lease | None:
        """The most urgent job that waits, or whose worker is silent for longer than its lease; None where none is."""
        if not self._has_news():
            return None
        with self.database.write() as connection:
            self._reap(connection)
            now = self.database.now(connection)
            query = (
                sa.select(_jobs.id, _jobs.attempt, _jobs.started_at)
                .where(sa.or_(_waits(now), _is_silent(now)), _jobs.backbone == backbone)
                .order_by(_jobs.priority.desc(), _jobs.number)
                .limit(1)
            )
            found = connection.execute(query).one_or_none()
            if found is None:
                return None
            token = uuid.uuid4().hex
            self._set(
                connection,
                found.id,
                state="running",
                attempt=found.attempt + 1,
                lease_owner=owner[:128],
                lease_token=token,
                lease_until=now + self.lease_s,
                started_at=found.started_at or now,
                progress=None,
                outcome=None,
                error_code=None,
                error_message=None,
            )
            self._tell(connection, found.id, "state", {"state": "running", "attempt": found.attempt + 1})
            return Lease(_job(_row(connection, found.id)), token)

    def beat(self, lease: Lease, progress: dict[str, Any] | None = None) -> bool:
        """Renew the lease; True where the client wants the job cancelled. Raises LeaseLost."""
        with self.database.write() as connection:
            row = self.require_lease(connection, lease.id, lease.token)
            values: dict[str, Any] = {"lease_until": self.database.now(connection) + self.lease_s}
            if progress is not None:
                values["progress"] = progress
            self._set(connection, lease.id, **values)
            return bool(row.cancel_requested)

    def tell(self, lease: Lease, kind: Literal["epoch", "log"], data: dict[str, Any]) -> None:
        """Add an event, durable before this returns. Raises LeaseLost."""
        with self.database.write() as connection:
            self.require_lease(connection, lease.id, lease.token)
            self._tell(connection, lease.id, kind, data)

    def store_outcome(self, lease: Lease, outcome: dict[str, Any]) -> None:
        """What the job's result will be once its adapter is published. Raises LeaseLost."""
        with self.database.write() as connection:
            self.require_lease(connection, lease.id, lease.token)
            self._set(connection, lease.id, outcome=outcome)

    def finish(
        self,
        lease: Lease,
        state: Literal["succeeded", "failed", "cancelled"],
        outcome: dict[str, Any] | None = None,
        error: tuple[str, str] | None = None,
    ) -> None:
        """End the job. Raises LeaseLost."""
        with self.database.write() as connection:
            self.require_lease(connection, lease.id, lease.token)
            self._end(connection, lease.id, state, outcome, error)

    def try_again(self, lease: Lease, error: tuple[str, str], delay_s: float) -> None:
        """Let the job wait for another attempt, or fail where it was the last one. Raises LeaseLost."""
        with self.database.write() as connection:
            row = self.require_lease(connection, lease.id, lease.token)
            if row.cancel_requested:
                self._end(connection, lease.id, "cancelled")
            elif row.attempt >= row.max_attempts:
                self._end(connection, lease.id, "failed", None, error)
            else:
                self._release(connection, row, row.attempt, self.database.now(connection) + delay_s, error)

    def give_back(self, lease: Lease) -> None:
        """Let another worker go on at once; an attempt that was given back does not count. Raises LeaseLost."""
        with self.database.write() as connection:
            row = self.require_lease(connection, lease.id, lease.token)
            self._release(connection, row, row.attempt - 1, 0.0, None)

    @contextmanager
    def holding(self, job_id: str, token: str) -> Iterator[sa.Connection]:
        """A transaction during which nobody else can take the lease. Raises LeaseLost."""
        with self.database.write() as connection:
            self.require_lease(connection, job_id, token)
            yield connection

    def require_lease(self, connection: sa.Connection, job_id: str, token: str) -> sa.Row[Any]:
        """The job's row. Raises NotFound or LeaseLost."""
        row = _row(connection, job_id)
        if row.state != "running" or row.lease_token != token:
            raise LeaseLost(f"found a lease of job {job_id} that no longer holds. Fix: drop this attempt's work")
        return row

    # For publishing

    def publication(self, connection: sa.Connection, job_id: str, token: str) -> Published | None:
        """What this job has published, None where the lease holds and it has published nothing.

        Raises NotFound, LeaseLost, or JobConflict (`job_cancelled`).
        """
        row = connection.execute(sa.select(publication_table).where(publication_table.c.job_id == job_id)).one_or_none()
        if row is not None and row.lease_token == token:  # the answer was lost on its way
            return Published(row.name, row.version)
        if self.require_lease(connection, job_id, token).cancel_requested:
            raise JobConflict("found a job that is to be cancelled, expected one that runs", code="job_cancelled")
        return None

    def succeed(self, connection: sa.Connection, job_id: str, token: str, name: str, version: int, digest: str) -> None:
        """Record the publication and end the job with the outcome that was stored, in the caller's transaction."""
        row = self.require_lease(connection, job_id, token)
        connection.execute(
            publication_table.insert().values(job_id=job_id, lease_token=token, name=name, version=version)
        )
        adapter = {"name": name, "version": version, "digest": digest}
        self._end(connection, job_id, "succeeded", {**(row.outcome or {}), "published": True, "adapter": adapter}, None)

    def reap(self) -> None:
        """End the jobs whose worker is gone and that get no further attempt."""
        if self._has_news():
            with self.database.write() as connection:
                self._reap(connection)

    # For collecting what nothing needs

    def ids(self) -> dict[str, State]:
        """Every job's state."""
        with self.database.read() as connection:
            return {row.id: row.state for row in connection.execute(sa.select(_jobs.id, _jobs.state))}

    def tokens(self) -> set[str]:
        """The leases that are held now."""
        with self.database.read() as connection:
            held = sa.select(_jobs.lease_token).where(_jobs.state == "running", _jobs.lease_token.is_not(None))
            return set(connection.execute(held).scalars())

    def _has_news(self) -> bool:
        """Whether a job waits or its worker is silent: a look that holds no writer up."""
        with self.database.read() as connection:
            now = self.database.now(connection)
            query = sa.select(_jobs.number).where(sa.or_(_waits(now), _is_silent(now))).limit(1)
            return connection.execute(query).one_or_none() is not None

    def _reap(self, connection: sa.Connection) -> None:
        now = self.database.now(connection)
        silent = sa.select(job_table).where(
            _is_silent(now),
            sa.or_(_jobs.cancel_requested, _jobs.attempt >= _jobs.max_attempts),
        )
        for row in connection.execute(silent).all():
            if row.cancel_requested:
                self._end(connection, row.id, "cancelled")
            else:
                times = "once" if row.attempt == 1 else f"{row.attempt} times"
                self._end(
                    connection,
                    row.id,
                    "failed",
                    None,
                    (
                        "worker_lost",
                        f"the worker went away {times} without a word, expected it to finish in {row.max_attempts} "
                        "attempt(s). Fix: see the worker's own log (out of memory?), then POST /jobs/{id}/retry",
                    ),
                )

    def _end(
        self,
        connection: sa.Connection,
        job_id: str,
        state: State,
        outcome: dict[str, Any] | None = None,
        error: tuple[str, str] | None = None,
        **more: Any,
    ) -> None:
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
            **more,
        )
        self._tell(connection, job_id, "state", {"state": state, "attempt": _row(connection, job_id).attempt}, error)

    def _release(
        self, connection: sa.Connection, row: Any, attempt: int, run_after: float, error: tuple[str, str] | None
    ) -> None:
        if row.cancel_requested:
            self._end(connection, row.id, "cancelled")
            return
        self._set(connection, row.id, state="queued", attempt=attempt, run_after=run_after, progress=None, **_NO_LEASE)
        self._tell(connection, row.id, "state", {"state": "queued", "attempt": attempt}, error)

    def _set(self, connection: sa.Connection, job_id: str, **values: Any) -> None:
        connection.execute(job_table.update().where(_jobs.id == job_id).values(**values))

    def _tell(
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


def _waits(now: float) -> sa.ColumnElement[bool]:
    return sa.and_(_jobs.state == "queued", _jobs.run_after <= now)


def _is_silent(now: float) -> sa.ColumnElement[bool]:
    """Its worker has not renewed the lease in time."""
    return sa.and_(_jobs.state == "running", _jobs.lease_until < now)


def jobs_using(connection: sa.Connection, dataset: str, version: int | None = None) -> list[str]:
    """The ids of the jobs that wait for or train on a dataset, or on one version of it."""
    query = sa.select(_jobs.id).where(_jobs.dataset == dataset, _jobs.state.in_(("queued", "running")))
    if version is not None:
        query = query.where(_jobs.dataset_version == version)
    return list(connection.execute(query.order_by(_jobs.number)).scalars())


def _row(connection: sa.Connection, job_id: str) -> sa.Row[Any]:
    row = connection.execute(sa.select(job_table).where(_jobs.id == job_id)).one_or_none()
    if row is None:
        raise NotFound(f"found no job {job_id[:32]!r}. Fix: see GET /jobs for the ids", code="job_not_found")
    return row


def _columns(request: JobRequest) -> dict[str, Any]:
    values = {name: getattr(request, name) for name in _PLAIN}
    pin = request.dataset
    return {**values, "dataset": pin.name, "dataset_version": pin.version, "dataset_digest": pin.digest}


_PLAIN = ("adapter", "alias", "backbone", "hyper_parameters", "priority", "max_attempts", "margin", "force")


def _job(row: Any) -> Job:
    request = JobRequest(
        dataset=DatasetPin(row.dataset, row.dataset_version, row.dataset_digest),
        **{name: getattr(row, name) for name in _PLAIN},
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


def _event(row: Any) -> Event:
    return Event(row.number, row.kind, row.at, row.data)
