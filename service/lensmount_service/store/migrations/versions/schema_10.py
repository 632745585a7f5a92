"""Schema 10: how many bytes the files of a job have. Those of earlier jobs do not count until one is added."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "10"
down_revision = "9"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("file_bytes", sa.BigInteger))


def downgrade() -> None:
    op.drop_column("jobs", "file_bytes")
