"""Schema 4: also tokens, the time of each delete so that it can be undone, and names with room for a tenant.

SQLite ignores the length of a text, so only PostgreSQL changes the lengths.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"

_UNDELETABLE = ("versions", "aliases", "datasets")
_NAMES = (
    *(("versions", "name"), ("aliases", "name"), ("datasets", "name"), ("publications", "name")),
    *(("jobs", "dataset"), ("jobs", "adapter")),
    *(("pool_images", "dataset"), ("pool_labels", "dataset"), ("pool_leases", "dataset")),
)


def upgrade() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(32), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
        sa.Column("scopes", sa.String(64), nullable=False),
        sa.Column("quotas", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float),
        sa.Column("revoked_at", sa.Float),
    )
    op.create_index("ix_tokens_name", "tokens", ["tenant", "name"])
    for table in _UNDELETABLE:
        op.add_column(table, sa.Column("deleted_at", sa.Float))
    _set_lengths(name=128, reference=224)


def downgrade() -> None:
    """What was deleted and could be undeleted is gone. A name of more than 64 characters stops this step."""
    _set_lengths(name=64, reference=160)
    op.execute("DELETE FROM aliases WHERE deleted_at IS NOT NULL")
    for table in _UNDELETABLE:
        op.drop_column(table, "deleted_at")
    op.drop_table("tokens")


def _set_lengths(name: int, reference: int) -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, column in _NAMES:
        op.alter_column(table, column, type_=sa.String(name))
    op.alter_column("pool_labels", "adapter", type_=sa.String(reference))
