"""Schema 8: what rollouts have shown: counts of requests, and images with a label that both versions answered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "8"
down_revision = "7"


def upgrade() -> None:
    op.create_table(
        "rollout_counts",
        sa.Column("rollout", sa.String(32), primary_key=True),
        sa.Column("counts", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
    op.create_table(
        "rollout_pairs",
        sa.Column("rollout", sa.String(32), primary_key=True),
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("side", sa.String(8), nullable=False),
        sa.Column("share", sa.Double, nullable=False),
        sa.Column("classes", sa.Integer, nullable=False),
        *(
            sa.Column(f"{side}_{what}", kind, nullable=False)
            for side in ("stable", "candidate")
            for what, kind in (("right", sa.Boolean), ("score", sa.Double), ("top", sa.Double), ("brier", sa.Double))
        ),
    )


def downgrade() -> None:
    op.drop_table("rollout_pairs")
    op.drop_table("rollout_counts")
