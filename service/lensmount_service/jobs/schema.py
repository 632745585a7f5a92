"""The database tables of jobs, their events and their publications."""

from __future__ import annotations

import sqlalchemy as sa

from lensmount_service.store.database import metadata

job_table = sa.Table(
    "jobs",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),  # the order of submission
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("dataset", sa.String(128), nullable=False),
    sa.Column("dataset_version", sa.Integer, nullable=False),
    sa.Column("dataset_digest", sa.String(71), nullable=False),
    sa.Column("adapter", sa.String(128), nullable=False),
    sa.Column("alias", sa.String(64)),
    sa.Column("backbone", sa.String(71), nullable=False),  # fingerprint: only a worker with this backbone may claim
    sa.Column("hyper_parameters", sa.JSON, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("margin", sa.Float, nullable=False),
    sa.Column("force", sa.Boolean, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("run_after", sa.Float, nullable=False, default=0.0),
    sa.Column("lease_owner", sa.String(128)),
    sa.Column("lease_token", sa.String(32)),
    sa.Column("lease_until", sa.Float),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, default=False),
    sa.Column("progress", sa.JSON(none_as_null=True)),
    sa.Column("outcome", sa.JSON(none_as_null=True)),
    sa.Column("error_code", sa.String(64)),
    sa.Column("error_message", sa.Text),
    sa.Column("idempotency_key", sa.String(192), unique=True),  # with the tenant, unless that is the default one
    sa.Column("request_digest", sa.String(71)),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("finished_at", sa.Float),
    sa.Column("tenant", sa.String(32)),  # null for the default one
    sa.Column("owner", sa.String(64)),  # the actor who submitted it
    sa.Column("by_admin", sa.Boolean),  # so that it may move a protected alias
    sa.Column("shared_dataset", sa.String(72)),  # public/NAME, if the dataset was named so
    sa.Column("canary", sa.Float),  # percent of the requests of its alias; null: the alias moves
    sa.Column("file_bytes", sa.BigInteger),  # of its files, the checkpoint included; null before schema 10
    sa.Column("kind", sa.String(16)),  # null for one that trains
    sa.Index("ix_jobs_claim", "state", "priority", "number"),
    sa.Index("ix_jobs_dataset", "dataset", "dataset_version"),
)


event_table = sa.Table(
    "job_events",
    metadata,
    sa.Column("job_id", sa.String(32), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
)


publication_table = sa.Table(
    "publications",
    metadata,
    sa.Column("job_id", sa.String(32), primary_key=True),  # so a job publishes at most once
    sa.Column("lease_token", sa.String(32), nullable=False),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
)
