"""Schema 9: what percentage of an alias's requests the version of a job gets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "9"
down_revision = "8"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("canary", sa.Float))


def downgrade() -> None:
    op.drop_column("jobs", "canary")
