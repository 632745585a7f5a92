"""What workers do with jobs: claim one, renew its lease, report on it and end it.

Each write carries the lease's token and is refused once another worker has claimed the job.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Literal, Protocol

import sqlalchemy as sa

from lensmount_service.errors import JobConflict, LeaseLost
from lensmount_service.jobs.records import Event, Job, Kind, Lease, Published
from lensmount_service.jobs.rows import JobRows, is_waiting, job_of, job_row, of_kind
from lensmount_service.jobs.schema import event_table, job_table, publication_table
from lensmount_service.store.keys import DEFAULT_TENANT, name_of

_jobs = job_table.c


class JobQueue(Protocol):
    """All that a worker needs of the job table. Those that write, except `claim`, raise LeaseLost."""

    def claim(self, owner: str, backbone: str, kind: Kind = "train") -> Lease | None: ...

    def beat(self, lease: Lease, progress: dict[str, Any] | None = None) -> bool: ...

    def add_event(self, lease: Lease, kind: Literal["epoch", "log"], data: dict[str, Any]) -> None: ...

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> tuple[Job, tuple[Event, ...]]: ...

    def traceparent(self, job_id: str) -> str: ...

    def store_outcome(self, lease: Lease, outcome: dict[str, Any]) -> None: ...

    def finish(
        self,
        lease: Lease,
        state: Literal["succeeded", "failed", "cancelled"],
        outcome: dict[str, Any] | None = None,
        error: tuple[str, str] | None = None,
    ) -> None: ...

    def try_again(self, lease: Lease, error: tuple[str, str], delay_s: float) -> None: ...

    def give_back(self, lease: Lease) -> None: ...


class WorkerVerbs(JobRows):
    """`lease = jobs.claim("me", backbone)`, `jobs.beat(lease)`, `jobs.finish(lease, "succeeded")`."""

    def claim(self, owner: str, backbone: str, kind: Kind = "train") -> Lease | None:
        """Claim the most urgent job that is queued or whose lease has expired; None if there is none.

        Workers train; a server predicts.
        """
        if not self._has_claimable():
            return None
        with self.database.write() as connection:
            self._reap(connection)
            now = self.database.now(connection)
            query = (
                sa.select(_jobs.id, _jobs.attempt, _jobs.started_at)
                .where(sa.or_(is_waiting(now), _jobs.id.in_(self._expired(connection))), _jobs.backbone == backbone)
                .where(of_kind(kind))
                .order_by(_jobs.priority.desc(), _jobs.number)
                .limit(1)
            )
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            token = uuid.uuid4().hex
            self._set(
                connection,
                row.id,
                state="running",
                attempt=row.attempt + 1,
                lease_owner=owner[:128],
                lease_token=token,
                lease_until=now + self.lease_s,
                started_at=row.started_at or now,
                progress=None,
                outcome=None,
                error_code=None,
                error_message=None,
            )
            self._add_event(connection, row.id, "state", {"state": "running", "attempt": row.attempt + 1})
            self._watch.renewed(row.id, token, now + self.lease_s)
            return Lease(job_of(job_row(connection, row.id)), token)

    def beat(self, lease: Lease, progress: dict[str, Any] | None = None) -> bool:
        """Renew the lease; True if the client wants the job cancelled. Raises LeaseLost."""
        with self.database.write() as connection:
            row = self.require_lease(connection, lease.id, lease.token)
            until = self.database.now(connection) + self.lease_s
            self._watch.renewed(lease.id, lease.token, until)
            values: dict[str, Any] = {"lease_until": until}
            if progress is not None:
                values["progress"] = progress
            self._set(connection, lease.id, **values)
            return bool(row.cancel_requested)

    def add_event(self, lease: Lease, kind: Literal["epoch", "log"], data: dict[str, Any]) -> None:
        """Add an event, durable before this returns. Raises LeaseLost."""
        with self.holding(lease.id, lease.token) as connection:
            self._add_event(connection, lease.id, kind, data)

    def traceparent(self, job_id: str) -> str:
        """The span of the request that queued the job last; "" if it had none."""
        with self.database.read() as connection:
            query = (
                sa.select(event_table.c.data)
                .where(event_table.c.job_id == job_id, event_table.c.kind == "state")
                .order_by(event_table.c.number.desc())
            )
            found = (row.data.get("traceparent", "") for row in connection.execute(query))
            return next(filter(None, found), "")

    def store_outcome(self, lease: Lease, outcome: dict[str, Any]) -> None:
        """Store what the job's result will be once its adapter is published. Raises LeaseLost."""
        with self.holding(lease.id, lease.token) as connection:
            self._set(connection, lease.id, outcome=outcome)

    def finish(
        self,
        lease: Lease,
        state: Literal["succeeded", "failed", "cancelled"],
        outcome: dict[str, Any] | None = None,
        error: tuple[str, str] | None = None,
        also: Callable[[sa.Connection], object] = lambda connection: None,
    ) -> None:
        """End the job, and do `also` in the same transaction. Raises LeaseLost."""
        with self.holding(lease.id, lease.token) as connection:
            self._end(connection, lease.id, state, outcome, error)
            also(connection)

    def try_again(self, lease: Lease, error: tuple[str, str], delay_s: float) -> None:
        """Queue the job for another attempt, or fail it after its last one. Raises LeaseLost."""
        with self.database.write() as connection:
            row = self.require_lease(connection, lease.id, lease.token)
            if row.cancel_requested:
                self._end(connection, lease.id, "cancelled")
            elif row.attempt >= row.max_attempts:
                self._end(connection, lease.id, "failed", None, error)
            else:
                self._release(connection, row, row.attempt, self.database.now(connection) + delay_s, error)

    def give_back(self, lease: Lease) -> None:
        """Let another worker continue at once; an attempt that was given back does not count. Raises LeaseLost."""
        with self.database.write() as connection:
            row = self.require_lease(connection, lease.id, lease.token)
            self._release(connection, row, row.attempt - 1, 0.0, None)

    @contextmanager
    def holding(self, job_id: str, token: str) -> Iterator[sa.Connection]:
        """A transaction during which no other worker can take the lease. Raises LeaseLost."""
        with self.database.write() as connection:
            self.require_lease(connection, job_id, token)
            yield connection

    def charge_files(self, connection: sa.Connection, job_id: str, nbytes: int) -> None:
        """The files of the job will have this many bytes. Raises StoredTooMuch if its owner may not have more."""
        row = job_row(connection, job_id)
        more = nbytes - (row.file_bytes or 0)
        if more > 0:
            self._charge_files(connection, f"{row.tenant or DEFAULT_TENANT}/", row.owner, more)
        self.count_files(connection, job_id, nbytes)

    def count_files(self, connection: sa.Connection, job_id: str, nbytes: int) -> None:
        """The files of the job have this many bytes now, after some were removed."""
        self._set(connection, job_id, file_bytes=nbytes)

    def require_lease(self, connection: sa.Connection, job_id: str, token: str) -> sa.Row[Any]:
        """The job's row. Raises NotFound or LeaseLost."""
        row = job_row(connection, job_id)
        if row.state != "running" or row.lease_token != token:
            raise LeaseLost(f"found a lease of job {job_id} that no longer holds. Fix: drop this attempt's work")
        return row

    def publication(self, connection: sa.Connection, job_id: str, token: str) -> Published | None:
        """What this job has published; None if the lease holds and the job has published nothing.

        Raises NotFound, LeaseLost, or JobConflict (`job_cancelled`).
        """
        row = connection.execute(sa.select(publication_table).where(publication_table.c.job_id == job_id)).one_or_none()
        if row is not None and row.lease_token == token:  # the worker asks again because it never got the response
            return Published(row.name, row.version)
        if self.require_lease(connection, job_id, token).cancel_requested:
            raise JobConflict("found a job that is to be cancelled, expected one that runs", code="job_cancelled")
        return None

    def succeed(self, connection: sa.Connection, job_id: str, token: str, published: Published, digest: str) -> None:
        """Record the publication and end the job with the outcome that was stored, in the caller's transaction."""
        row = self.require_lease(connection, job_id, token)
        connection.execute(publication_table.insert().values(job_id=job_id, lease_token=token, **asdict(published)))
        adapter = {**asdict(published), "name": name_of(published.name), "digest": digest}
        self._end(connection, job_id, "succeeded", {**(row.outcome or {}), "published": True, "adapter": adapter}, None)
