"""Schema 2: also datasets and jobs, and the number of the schema in a table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    op.create_table("lensmount_schema", sa.Column("version", sa.Integer, primary_key=True), if_not_exists=True)
    op.create_table(
        "datasets",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("images", sa.Integer, nullable=False),
        sa.Column("classes", sa.JSON, nullable=False),
        sa.Column("report", sa.JSON, nullable=False),
        sa.Column("source_digest", sa.String(71), nullable=False),
        sa.Column("source_bytes", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_datasets_digest", "datasets", ["digest"], if_not_exists=True)
    op.create_index("ix_datasets_source_digest", "datasets", ["source_digest"], if_not_exists=True)
    _create_jobs()


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("dataset", sa.String(64), nullable=False),
        sa.Column("dataset_version", sa.Integer, nullable=False),
        sa.Column("dataset_digest", sa.String(71), nullable=False),
        sa.Column("adapter", sa.String(64), nullable=False),
        sa.Column("alias", sa.String(64)),
        sa.Column("backbone", sa.String(71), nullable=False),
        sa.Column("hyper_parameters", sa.JSON, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("margin", sa.Float, nullable=False),
        sa.Column("force", sa.Boolean, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("run_after", sa.Float, nullable=False),
        sa.Column("lease_owner", sa.String(128)),
        sa.Column("lease_token", sa.String(32)),
        sa.Column("lease_until", sa.Float),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("progress", sa.JSON),
        sa.Column("outcome", sa.JSON),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error_message", sa.Text),
        sa.Column("idempotency_key", sa.String(128), unique=True),
        sa.Column("request_digest", sa.String(71)),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("started_at", sa.Float),
        sa.Column("finished_at", sa.Float),
        if_not_exists=True,
    )
    op.create_index("ix_jobs_claim", "jobs", ["state", "priority", "number"], if_not_exists=True)
    op.create_index("ix_jobs_dataset", "jobs", ["dataset", "dataset_version"], if_not_exists=True)
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.String(32), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "publications",
        sa.Column("job_id", sa.String(32), primary_key=True),
        sa.Column("lease_token", sa.String(32), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        if_not_exists=True,
    )


def downgrade() -> None:
    for table in ("publications", "job_events", "jobs", "datasets", "lensmount_schema"):
        op.drop_table(table)
