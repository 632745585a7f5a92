"""Schema 5: who added each image of a pool, and indexes that find what one owner holds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"

_OWNED = ("versions", "datasets", "pool_images")


def upgrade() -> None:
    op.add_column("pool_images", sa.Column("owner", sa.String(64)))
    for table in _OWNED:
        op.create_index(f"ix_{table}_owner", table, ["owner"])


def downgrade() -> None:
    for table in _OWNED:
        op.drop_index(f"ix_{table}_owner", table)
    op.drop_column("pool_images", "owner")
