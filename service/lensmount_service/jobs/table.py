"""The durable job table: each job is leased to one worker at a time, and every write of a worker carries its lease.

A worker that dies stops renewing its lease. When the lease expires, another worker claims the job with a new token, and
whatever the first one still sends is refused. Every change of a job is one transaction together with its event.
"""

from __future__ import annotations

import sqlalchemy as sa

from lensmount_service.jobs.client_verbs import ClientVerbs
from lensmount_service.jobs.records import State
from lensmount_service.jobs.schema import job_table
from lensmount_service.jobs.worker_verbs import WorkerVerbs

_jobs = job_table.c


class JobTable(ClientVerbs, WorkerVerbs):
    """`jobs.submit(request)`, `lease = jobs.claim("me", backbone)`, `jobs.beat(lease)`, `jobs.finish(lease, ...)`.

    Safe from any thread and any process. `lease_s` is how long a worker may be silent, in seconds, before another one
    may claim its job; `max_queued` is how many jobs may wait.
    """

    def ids(self) -> dict[str, State]:
        """Every job's state."""
        with self.database.read() as connection:
            return {row.id: row.state for row in connection.execute(sa.select(_jobs.id, _jobs.state))}

    def tokens(self) -> set[str]:
        """The tokens of the leases that are held now."""
        with self.database.read() as connection:
            held = sa.select(_jobs.lease_token).where(_jobs.state == "running", _jobs.lease_token.is_not(None))
            return set(connection.execute(held).scalars())


def jobs_using(connection: sa.Connection, dataset: str, version: int | None = None) -> list[str]:
    """The ids of the jobs that wait for or train on a dataset, or on one version of it."""
    query = sa.select(_jobs.id).where(_jobs.dataset == dataset, _jobs.state.in_(("queued", "running")))
    if version is not None:
        query = query.where(_jobs.dataset_version == version)
    return list(connection.execute(query.order_by(_jobs.number)).scalars())
