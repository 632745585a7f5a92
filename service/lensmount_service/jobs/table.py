"""The durable job table: each job is leased to one worker at a time, and every write of a worker carries its lease.

A worker that dies stops renewing its lease. When the lease expires, another worker claims the job with a new token, and
whatever the first one still sends is refused. Every change of a job is one transaction together with its event.
"""

from __future__ import annotations

import sqlalchemy as sa

from lensmount_service.jobs.client_verbs import ClientVerbs
from lensmount_service.jobs.records import DatasetPin, State
from lensmount_service.jobs.rows import job_of
from lensmount_service.jobs.schema import job_table, publication_table
from lensmount_service.jobs.worker_verbs import WorkerVerbs
from lensmount_service.store.keys import DEFAULT_TENANT, tenant_of

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

    def counts(self) -> dict[State, int]:
        """How many jobs are in each state; a state without any is left out."""
        counted = sa.select(_jobs.state, sa.func.count().label("number")).group_by(_jobs.state)
        with self.database.read() as connection:
            return {row.state: row.number for row in connection.execute(counted)}

    def holder_of(self, token: str) -> tuple[str, DatasetPin] | None:
        """Tenant and dataset of the job that this lease is for, or was for when it published; None if it is unknown."""
        published = sa.select(publication_table.c.job_id).where(publication_table.c.lease_token == token)
        held = sa.and_(_jobs.state == "running", _jobs.lease_token == token)
        with self.database.read() as connection:
            row = connection.execute(sa.select(job_table).where(sa.or_(held, _jobs.id.in_(published)))).first()
        request = None if row is None else job_of(row).request
        return None if request is None else (request.tenant, request.dataset)

    def tokens(self) -> set[str]:
        """The tokens of the leases that are held now."""
        with self.database.read() as connection:
            held = sa.select(_jobs.lease_token).where(_jobs.state == "running", _jobs.lease_token.is_not(None))
            return set(connection.execute(held).scalars())


def jobs_using(connection: sa.Connection, dataset: str, version: int | None = None) -> list[str]:
    """The jobs that wait for or train on a dataset, or on one version of it, by the key of the dataset.

    Those of its own tenant come first, by their ids; of others nothing is said but that they are there.
    """
    query = sa.select(_jobs.id, _jobs.tenant).where(_jobs.dataset == dataset, _jobs.state.in_(("queued", "running")))
    if version is not None:
        query = query.where(_jobs.dataset_version == version)
    rows = connection.execute(query.order_by(_jobs.number)).all()
    mine = [row.id for row in rows if (row.tenant or DEFAULT_TENANT) == tenant_of(dataset)]
    return mine + ["one of another tenant"] * (len(rows) - len(mine))
