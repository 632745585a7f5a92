"""Schema 6: the signature of each version of an adapter."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"


def upgrade() -> None:
    op.add_column("versions", sa.Column("signature", sa.String(128)))


def downgrade() -> None:
    op.drop_column("versions", "signature")
