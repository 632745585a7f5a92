"""Schema 4: tokens, tenants with what they share, owners, and the time of each delete so that it can be undone.

SQLite ignores the length of a text, so only PostgreSQL changes the lengths.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"

_UNDELETABLE = ("versions", "aliases", "datasets")
_OWNED = ("versions", "datasets", "jobs")
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
    op.create_table(
        "shared",
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("actor", sa.String(64)),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("ended", sa.Float),
    )
    for table in _UNDELETABLE:
        op.add_column(table, sa.Column("deleted_at", sa.Float))
    for table in _OWNED:
        op.add_column(table, sa.Column("owner", sa.String(64)))
    op.add_column("aliases", sa.Column("protected", sa.Boolean))
    op.add_column("jobs", sa.Column("tenant", sa.String(32)))
    op.add_column("jobs", sa.Column("by_admin", sa.Boolean))
    op.add_column("jobs", sa.Column("shared_dataset", sa.String(72)))
    _set_lengths(name=128, reference=224, key=192)


def downgrade() -> None:
    """What was deleted and could be undeleted is gone. A name of more than 64 characters stops this step."""
    _set_lengths(name=64, reference=160, key=128)
    for column in ("tenant", "by_admin", "shared_dataset"):
        op.drop_column("jobs", column)
    op.drop_column("aliases", "protected")
    for table in _OWNED:
        op.drop_column(table, "owner")
    op.execute("DELETE FROM aliases WHERE deleted_at IS NOT NULL")
    for table in _UNDELETABLE:
        op.drop_column(table, "deleted_at")
    op.drop_table("shared")
    op.drop_table("tokens")


def _set_lengths(name: int, reference: int, key: int) -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, column in _NAMES:
        op.alter_column(table, column, type_=sa.String(name))
    op.alter_column("pool_labels", "adapter", type_=sa.String(reference))
    op.alter_column("jobs", "idempotency_key", type_=sa.String(key))
