"""What clients do with jobs: submit, read, list, follow, cancel and retry them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from lensmount_service.errors import JobConflict, QueueFull, RequestInvalid
from lensmount_service.jobs.records import Event, Job, JobRequest, State
from lensmount_service.jobs.rows import JobRows, columns_of, event_of, job_of, job_row, of_tenant
from lensmount_service.jobs.schema import event_table, job_table
from lensmount_service.store.keys import DEFAULT_TENANT
from lensmount_service.store.precondition import ANY, Precondition

_jobs = job_table.c
_events = event_table.c


class ClientVerbs(JobRows):
    """`job, created = jobs.submit(request)`, `jobs.events(job.id, after=7)`, `jobs.cancel(job.id)`."""

    def submit(
        self,
        request: JobRequest,
        key: str | None = None,
        request_digest: str | None = None,
        check: Callable[[sa.Connection], object] | None = None,
        expected: Precondition = ANY,
    ) -> tuple[Job, bool]:
        """Return the new job and True, or the job that this idempotency key made before and False.

        `check` runs in the same transaction; it raises if, for example, the dataset has been deleted meanwhile.
        `expected` is about the job that this key made. Raises PreconditionFailed, RequestInvalid
        (`idempotency_key_reuse`), QueueFull (`jobs_full`) or QuotaExceeded.
        """
        own_key = key if key is None or request.tenant == DEFAULT_TENANT else f"{request.tenant} {key}"
        with self.database.write() as connection:
            earlier = None if own_key is None else _job_of_key(connection, own_key, request_digest)
            expected.require(None if earlier is None else earlier.tag)
            if earlier is not None:
                return earlier, False
            self._require_room(connection)
            self._charge(connection, request.tenant, request.owner)
            if check is not None:
                check(connection)
            values = {
                "id": uuid.uuid4().hex,
                "state": "queued",
                **columns_of(request),
                "idempotency_key": own_key,
                "request_digest": request_digest,
                "created_at": self.database.now(connection),
            }
            row = connection.execute(job_table.insert().values(values).returning(job_table)).one()
            self._add_event(connection, row.id, "state", _queued(request.traceparent))
            return job_of(row), True

    def get(self, job_id: str, tenant: str | None = None) -> Job:
        """A job of any tenant, or of one. Raises NotFound (`job_not_found`)."""
        with self.database.read() as connection:
            return job_of(job_row(connection, job_id, tenant))

    def list(
        self, state: State | None = None, limit: int = 100, before: str | None = None, tenant: str | None = None
    ) -> list[Job]:
        """Newest first; `before` is the id of the last job of the page before."""
        with self.database.read() as connection:
            query = sa.select(job_table).order_by(_jobs.number.desc()).limit(limit)
            if tenant is not None:
                query = query.where(of_tenant(tenant))
            if state is not None:
                query = query.where(_jobs.state == state)
            if before is not None:
                query = query.where(_jobs.number < job_row(connection, before, tenant).number)
            return [job_of(row) for row in connection.execute(query)]

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> tuple[Job, tuple[Event, ...]]:
        """The job and its events with a number over `after`, oldest first, both read at the same moment."""
        with self.database.read() as connection:
            job = job_of(job_row(connection, job_id))
            query = (
                sa.select(event_table)
                .where(_events.job_id == job_id, _events.number > after)
                .order_by(_events.number)
                .limit(limit)
            )
            return job, tuple(event_of(row) for row in connection.execute(query))

    def histories(self, job_ids: Sequence[str]) -> dict[str, tuple[dict[str, Any], ...]]:
        """The epochs of each job. If a later attempt repeated an epoch, its report replaces the earlier ones."""
        histories: dict[str, dict[int, dict[str, Any]]] = {job_id: {} for job_id in job_ids}
        with self.database.read() as connection:
            query = (
                sa.select(event_table)
                .where(_events.job_id.in_(job_ids), _events.kind == "epoch")
                .order_by(_events.job_id, _events.number)
            )
            for row in connection.execute(query):
                epochs = histories[row.job_id]
                for repeated in [epoch for epoch in epochs if epoch >= row.data["epoch"]]:
                    del epochs[repeated]
                epochs[row.data["epoch"]] = row.data
        return {job_id: tuple(epochs.values()) for job_id, epochs in histories.items()}

    def cancel(self, job_id: str, expected: Precondition = ANY) -> Job:
        """End a queued job at once, and a running one at its worker's next step. A second call changes nothing.

        Raises NotFound, PreconditionFailed, or JobConflict (`job_finished`).
        """
        with self.database.write() as connection:
            self._reap(connection)
            row = job_row(connection, job_id)
            if row.state in ("succeeded", "failed"):
                raise JobConflict(f"found a job that has {row.state}, expected one that waits or runs")
            tag = job_of(row).tag
            expected.require(tag, new=tag if row.cancel_requested or row.state == "cancelled" else None)
            if row.state == "queued":
                self._end(connection, job_id, "cancelled", cancel_requested=True)
            elif row.state == "running":
                self._set(connection, job_id, cancel_requested=True)
            return job_of(job_row(connection, job_id))

    def retry(
        self,
        job_id: str,
        check: Callable[[sa.Connection, Job], object] | None = None,
        owner: str | None = None,
        expected: Precondition = ANY,
        traceparent: str = "",
    ) -> Job:
        """Queue a failed or cancelled job again; its attempts are counted from 0 again. `check` is as in `submit`.

        `owner` pays from now on. Raises NotFound, PreconditionFailed, JobConflict (`job_finished`, `job_not_finished`),
        QueueFull (`jobs_full`) or QuotaExceeded.
        """
        with self.database.write() as connection:
            row = job_row(connection, job_id)
            if row.state not in ("failed", "cancelled"):
                code = "job_finished" if row.state == "succeeded" else "job_not_finished"
                raise JobConflict(
                    f"found a job that is {row.state}, expected one that failed or was cancelled", code=code
                )
            expected.require(job_of(row).tag)
            owner = row.owner if owner is None else owner
            self._require_room(connection)
            self._charge(connection, row.tenant or DEFAULT_TENANT, owner)
            if check is not None:
                check(connection, job_of(row))
            self._set(
                connection,
                job_id,
                owner=owner,
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
            self._add_event(connection, job_id, "state", _queued(traceparent))
            return job_of(job_row(connection, job_id))

    @contextmanager
    def ended(self, job_id: str, expected: Precondition = ANY) -> Iterator[sa.Connection]:
        """A transaction during which the job stays ended. Raises NotFound, PreconditionFailed or JobConflict
        (`job_not_finished`).
        """
        with self.database.write() as connection:
            self._reap(connection)
            job = job_of(job_row(connection, job_id))
            expected.require(job.tag)
            if not job.ended:
                raise JobConflict(
                    f"found a job that is {job.state}, expected one that has ended. "
                    "Fix: wait for its end, or cancel it: lensmount jobs cancel ID",
                    code="job_not_finished",
                )
            yield connection

    def _require_room(self, connection: sa.Connection) -> None:
        queued = sa.select(sa.func.count()).select_from(job_table).where(_jobs.state == "queued")
        if connection.execute(queued).scalar_one() >= self.max_queued:
            raise QueueFull(
                f"found {self.max_queued} queued jobs, which is the limit. Fix: try again later, or cancel some",
                code="jobs_full",
                retry_after_s=60,
            )


def _queued(traceparent: str) -> dict[str, Any]:
    """The event of a request that queues a job, with its span if it has one."""
    return {"state": "queued", "attempt": 0} | ({"traceparent": traceparent} if traceparent else {})


def _job_of_key(connection: sa.Connection, key: str, request_digest: str | None) -> Job | None:
    row = connection.execute(sa.select(job_table).where(_jobs.idempotency_key == key)).one_or_none()
    if row is None:
        return None
    if row.request_digest != request_digest:
        raise RequestInvalid(
            "found an Idempotency-Key that another request has used, expected a new one. "
            "Fix: use a fresh key for each new job",
            code="idempotency_key_reuse",
        )
    return job_of(row)
