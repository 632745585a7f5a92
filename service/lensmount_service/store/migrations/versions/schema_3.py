"""Schema 3: also the thresholds of aliases, the workers that are alive, and pools of images that wait for labels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("aliases")}
    for name in ("accept_confidence", "unfamiliar_percentile"):
        if name not in present:
            op.add_column("aliases", sa.Column(name, sa.Double))
    op.create_table(
        "workers",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("backbone", sa.String(71), nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "pool_images",
        sa.Column("dataset", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("suffix", sa.String(8), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("group_name", sa.String(256)),
        sa.Column("added_at", sa.Float, nullable=False),
        sa.Column("added_by", sa.String(64), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "pool_labels",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("dataset", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("label", sa.String(256), nullable=False),
        sa.Column("who", sa.String(64), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("adapter", sa.String(160)),
        sa.Column("request_id", sa.String(64)),
        if_not_exists=True,
    )
    op.create_index("ix_pool_labels_image", "pool_labels", ["dataset", "digest"], if_not_exists=True)
    op.create_table(
        "pool_leases",
        sa.Column("dataset", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("who", sa.String(64), nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        if_not_exists=True,
    )


def downgrade() -> None:
    for table in ("pool_leases", "pool_labels", "pool_images", "workers"):
        op.drop_table(table)
    op.drop_column("aliases", "unfamiliar_percentile")
    op.drop_column("aliases", "accept_confidence")
