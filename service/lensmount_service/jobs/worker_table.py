"""Which workers are alive: each one records that it asks for jobs, so a server can tell clients when there is none."""

from __future__ import annotations

import sqlalchemy as sa

from lensmount_service.jobs.schema import job_table
from lensmount_service.store.database import Database, metadata

NOTE_S = 5.0  # how often a worker records that it is there; each is a commit, so servers then read names again
SEEN_S = 15.0  # three records: a worker silent for longer is gone
KEPT_S = 86_400.0  # after this the record of a worker that was killed is removed

worker_table = sa.Table(
    "workers",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("backbone", sa.String(71), nullable=False),  # fingerprint: the same as that of the jobs it can claim
    sa.Column("seen_at", sa.Float, nullable=False),
)
_workers = worker_table.c
_jobs = job_table.c


class WorkerTable:
    """`workers.note("host:4711", backbone)` in a worker, `workers.count(backbone)` in a server."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create()

    def note(self, name: str, backbone: str) -> None:
        """Record that this worker asks for jobs now."""
        name = name[:128]
        with self._database.write() as connection:
            now = self._database.now(connection)
            old = sa.or_(_workers.name == name, _workers.seen_at < now - KEPT_S)
            connection.execute(worker_table.delete().where(old))
            connection.execute(worker_table.insert().values(name=name, backbone=backbone, seen_at=now))

    def forget(self, name: str) -> None:
        """Remove the record of a worker that ends."""
        with self._database.write() as connection:
            connection.execute(worker_table.delete().where(_workers.name == name[:128]))

    def count(self, backbone: str) -> int:
        """How many workers ask for jobs of this backbone, or train one now."""
        with self._database.read() as connection:
            now = self._database.now(connection)
            asking = sa.select(_workers.name).where(_workers.backbone == backbone, _workers.seen_at >= now - SEEN_S)
            training = sa.select(_jobs.lease_owner).where(
                _jobs.state == "running", _jobs.backbone == backbone, _jobs.kind.is_(None), _jobs.lease_until >= now
            )
            return len({*connection.execute(asking).scalars(), *connection.execute(training).scalars()})
