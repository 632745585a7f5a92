"""Schema 11: what a job does; null for one that trains."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "11"
down_revision = "10"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("kind", sa.String(16)))


def downgrade() -> None:
    op.drop_column("jobs", "kind")
